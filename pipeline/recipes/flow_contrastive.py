"""Flow Contrastive Estimation of Energy-Based Models.

Ruiqi Gao, Erik Nijkamp, Diederik P. Kingma, Zhen Xu, Andrew M. Dai, Ying Nian Wu. CVPR 2020, arXiv:1912.00589.

An energy with its normaliser as a parameter, p(x) = exp(-U(x) - c), and a flow q play for
V = E_data log sigmoid r(x) + E_q log sigmoid -r(x), r = log p - log q: the energy is for it (noise contrastive
estimation, with the flow for noise), the flow against it, through its samples and through log q. At the optimum
V = -log 4. No chain is run: samples are the flow's. The paper writes f for our -U.

Deviations from the paper, which has no code:
1. Whose turn it is depends on how well r told data from samples at the update before: above `threshold` the flow's.
2. The constant begins where r is 0 on average over the flow's samples, and has a rate of its own.
3. With few labels there is no virtual adversarial training. With `base` "flow" the energy is U(x) + c - log q_0(x).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, tilt
from pipeline.errors import InputError
from pipeline.flow_latent import FlowLatentRecipe
from pipeline.nets.energy_with_constant import EnergyWithConstant
from pipeline.nets.flow import Flow, FlowSettings, build_flow, flow_energy, flow_of, sample_with_energy
from pipeline.nets.symbols import classification_metrics
from pipeline.nets.weights import Nets
from pipeline.recipe import ChainStates
from pipeline.rng import standard_normal
from pipeline.settings import Count, Decay, NonNegative, PositiveInt, Probability


@dataclass(frozen=True)
class FlowContrastive(FlowLatentRecipe):
    """Flow contrastive estimation (FCE); with a `gaussian` flow, which does not learn, noise contrastive estimation."""

    flow: FlowSettings = FlowSettings()
    batch_size: PositiveInt = 100
    """Data items, and samples of the flow, an update, over all lanes."""
    base: Literal["none", "flow"] = "none"
    """What U stands beside: nothing (the paper's), or -log q of the flow as it began, so that U learns what that lacks
    alone. In many dimensions log q varies by tens of nats, which a small network does not learn soon."""
    labelled_batch_size: Count = 0
    """Items of known label an update, over all lanes; 0: the energy has no classes."""
    label_weight: NonNegative = 1.0
    """Weight of the labels' cross entropy beside V."""
    threshold: Probability = 0.55
    """Share that is told apart above which the flow learns, and below which the energy does."""
    energy_lr: NonNegative = 1e-4
    """Learning rate of the energy."""
    constant_lr: NonNegative = 1e-2
    """Learning rate of c."""
    flow_lr: NonNegative = 1e-5
    """Learning rate of the flow."""
    lr_decay: Decay = 1.0
    """Factor of all learning rates at each update; 1: they stay."""
    width: PositiveInt = 32
    """Channels of the ConvNet's first layer, units of an MLP's three layers."""
    leaky_slope: NonNegative = 0.2
    """LeakyReLU's slope below 0."""

    @property
    def streams(self) -> Mapping[str, int]:
        """Data, and those whose label is known."""
        return {"data": self.batch_size, **({"labelled": self.labelled_batch_size} if self.labelled_batch_size else {})}

    @property
    def frozen(self) -> frozenset[str]:
        """The flow as it began, where it is part of the energy."""
        return frozenset({"base"} if self.base == "flow" else ())

    def nets(self, spec: Spec) -> Nets:
        """The energy with its constant, and the flow, once more where it is the energy's base."""
        if self.labelled_batch_size and not spec.num_classes:
            raise InputError(
                "the data have no labels; 0 learns without", "labelled_batch_size", self.labelled_batch_size
            )
        energy = EnergyWithConstant(
            spec, spec.num_classes if self.labelled_batch_size else 0, self.width, self.leaky_slope
        )
        base = {"base": build_flow(self.flow, spec).requires_grad_(False)} if self.base == "flow" else {}
        return {"energy": energy, "flow": build_flow(self.flow, spec), **base}

    def data_dependent_init(
        self, nets: Nets, batch: dict[str, Batch], rng: torch.Generator, given: frozenset[str]
    ) -> None:
        """The flow's affine maps, unless it is given; the base; and c, so that r is 0 on average over samples."""
        x = self.flow.dequantize(batch["data"]["x"], rng)
        if "flow" not in given:
            flow_of(nets).initialise(x)
        if self.frozen - given:
            nets["base"].load_state_dict(nets["flow"].state_dict())
        if "energy" not in given:
            with torch.no_grad():
                made, energy = sample_with_energy(flow_of(nets), standard_normal((1000, x[0].numel()), rng))
                _energy(nets).constant.add_((energy - self.energy(nets)(made)).mean())

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with betas (.5, .999); c has its own rate."""
        parameters = dict(nets["energy"].named_parameters())
        constant = parameters.pop("constant")
        own: dict[str, Any] = {"params": [constant], "lr": self.constant_lr}
        groups = [{"params": list(parameters.values())}, own]
        found: dict[str, Optimizer] = {"energy": Adam(groups, self.energy_lr, betas=(0.5, 0.999))}
        if self.flow.family != "gaussian":
            found["flow"] = Adam(nets["flow"].parameters(), self.flow_lr, betas=(0.5, 0.999))
        return found

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The flow where the energy told too well, the energy otherwise."""
        flow = self.flow.family != "gaussian" and last.get("discriminator_accuracy", 0) > self.threshold
        return {"flow" if flow else "energy": self.lr_decay**update}

    def energy(self, nets: Nets) -> Energy:
        """U(x) + c, with the base's -log q_0(x) where there is one; it stands for -log p(x)."""
        return tilt(nets["energy"], flow_energy(cast(Flow, nets["base"]))) if self.frozen else nets["energy"]

    def item_metrics(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator
    ) -> dict[str, Tensor]:
        """`bits_per_dim` or `nll_nats` of p, as good as c, and of the flow; both energies; `accuracy` with heads."""
        x = batch["data"]["x"]
        seen = self.flow.dequantize(x, rng)
        own, base = self.energy(nets)(seen), flow_energy(flow_of(nets))(seen)
        flow_told = {f"flow_{k}": v for k, v in self.flow.metrics(base, x).items()}
        known = self.labelled_batch_size and "label" in batch["data"]
        labels = classification_metrics(_energy(nets).heads(seen), batch["data"]["label"]) if known else {}
        return {**self.flow.metrics(own, x), **flow_told, **labels, "energy": own, "energy_flow": base}

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """-V for the energy, and the cross entropy of labels; V for the flow (eqs. 8, 9)."""
        x = self.flow.dequantize(batch["data"]["x"], rng)
        made, made_energy = sample_with_energy(flow_of(nets), standard_normal((len(x), x[0].numel()), rng))
        of_data = flow_energy(flow_of(nets))(x) - self.energy(nets)(x)
        of_made = made_energy - self.energy(nets)(made)
        value = logsigmoid(of_data).mean() + logsigmoid(-of_made).mean()
        apart = ((of_data > 0).float().mean() + (of_made < 0).float().mean()) / 2
        told = {"value": value, "discriminator_accuracy": apart, "constant": _energy(nets).constant}
        told["log_ratio"] = of_made.mean() - of_data.mean()
        loss = -value
        if self.labelled_batch_size:
            seen = self.flow.dequantize(batch["labelled"]["x"], rng)
            labels = classification_metrics(_energy(nets).heads(seen), batch["labelled"]["label"])
            told |= {k: v.mean() for k, v in labels.items()}
            loss = loss + self.label_weight * told["cross_entropy"]
        return {"energy": loss, "flow": value}, told


def _energy(nets: Nets) -> Any:
    return nets["energy"]
