"""Flow Contrastive Estimation of Energy-Based Models.

Ruiqi Gao, Erik Nijkamp, Diederik P. Kingma, Zhen Xu, Andrew M. Dai, Ying Nian Wu. CVPR 2020, arXiv:1912.00589.

An energy whose normaliser is a parameter, p(x) = exp(-U(x) - c), and a flow q play a game with the value
V = E_data log sigmoid r(x) + E_q log sigmoid -r(x), where r = log p - log q. The energy maximises V (noise contrastive
estimation with the flow as noise); the flow minimises it, through its samples and through log q. At the optimum
V = -log 4. No chain runs; samples are the flow's. The paper writes f for our -U.

Deviations from the paper, which has no code:
1. The flow learns if r classified data and samples of the last update better than `threshold`, else the energy.
2. The constant starts where r is 0 on average over the flow's samples, and has a learning rate of its own.
3. Without virtual adversarial training for few labels. With `base` flow, the energy is U(x) + c - log q_0(x).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch.nn.functional import logsigmoid
from torch.optim import Adam, Optimizer

from pipeline.batch import LABELLED, Spec
from pipeline.energies.energy import Energy, tilt
from pipeline.flow_latent import FlowLatentRecipe
from pipeline.nets.energy_with_constant import EnergyWithConstant
from pipeline.nets.flow import Flow, FlowSettings, build_flow, flow_energy, flow_of, sample_with_energy
from pipeline.nets.symbols import classification_metrics, labelled_classes
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, LossesAndMetrics, Metrics
from pipeline.rng import standard_normal
from pipeline.settings import Count, Decay, NonNegative, PositiveInt, Probability


@dataclass(frozen=True)
class FlowContrastive(FlowLatentRecipe):
    """Flow contrastive estimation (FCE); with a `gaussian` flow, which does not learn, noise contrastive estimation.

    >>> FlowContrastive(threshold=0.6).learning_rate_factors(1, {"discriminator_accuracy": 0.7})
    {'flow': 1.0}
    """

    flow: FlowSettings = FlowSettings()
    batch_size: PositiveInt = 100
    """Data items, and samples of the flow, per update, over all lanes."""
    base: Literal["none", "flow"] = "none"
    """What U is added to: nothing (the paper's), or -log q_0 of the initial flow, so that U learns only the difference.
    In many dimensions log q varies by tens of nats, which a small network learns slowly."""
    labelled_batch_size: Count = 0
    """Items with known label per update, over all lanes; 0: the energy has no classes."""
    label_weight: NonNegative = 1.0
    """Weight of the labels' cross entropy in the energy's loss."""
    threshold: Probability = 0.55
    """Accuracy of the discriminator r above which the flow learns; otherwise the energy does."""
    energy_lr: NonNegative = 1e-4
    """Learning rate of the energy."""
    constant_lr: NonNegative = 1e-2
    """Learning rate of c."""
    flow_lr: NonNegative = 1e-5
    """Learning rate of the flow."""
    lr_decay: Decay = 1.0
    """Factor of all learning rates at each update; 1: they are constant."""
    width: PositiveInt = 32
    """Channels of the ConvNet's first layer, or units of the MLP's three layers."""
    leaky_slope: NonNegative = 0.2
    """Slope of LeakyReLU below 0."""

    @property
    def streams(self) -> Mapping[str, int]:
        """All data, and items with known label."""
        return {"data": self.batch_size} | ({LABELLED: self.labelled_batch_size} if self.labelled_batch_size else {})

    @property
    def frozen(self) -> frozenset[str]:
        """The initial flow, where it is part of the energy."""
        return frozenset({"base"} if self.base == "flow" else ())

    def nets(self, spec: Spec) -> Nets:
        """The energy U + c, the flow q, and a copy of it if it is the energy's base."""
        classes = labelled_classes(spec, self.labelled_batch_size)
        energy = EnergyWithConstant(spec, classes, self.width, self.leaky_slope)
        base = {"base": build_flow(self.flow, spec).requires_grad_(False)} if self.frozen else {}
        return {"energy": energy, "flow": build_flow(self.flow, spec), **base}

    def data_dependent_init(self, nets: Nets, batch: Batches, rng: torch.Generator, pretrained: frozenset[str]) -> None:
        """Initialise, unless pretrained, the flow from the batch, its copy, and c."""
        x = self.flow.dequantize(batch["data"]["x"], rng)
        if "flow" not in pretrained:
            flow_of(nets).init_from_data(x)
        if self.frozen - pretrained:
            nets["base"].load_state_dict(nets["flow"].state_dict())
        if "energy" not in pretrained:
            with torch.no_grad():
                samples, energy = sample_with_energy(flow_of(nets), standard_normal((1000, x[0].numel()), rng))
                cast(EnergyWithConstant, nets["energy"]).constant.add_((energy - self.energy(nets)(samples)).mean())

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with betas (.5, .999); c has its own learning rate."""
        parameters = dict(nets["energy"].named_parameters())
        constant: dict[str, Any] = {"params": [parameters.pop("constant")], "lr": self.constant_lr}
        groups = [{"params": list(parameters.values())}, constant]
        energy = {"energy": Adam(groups, self.energy_lr, betas=(0.5, 0.999))}
        if self.flow.family == "gaussian":
            return {**energy}
        return {**energy, "flow": Adam(nets["flow"].parameters(), self.flow_lr, betas=(0.5, 0.999))}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The flow's where the discriminator was above the threshold, the energy's otherwise."""
        flow = self.flow.family != "gaussian" and last.get("discriminator_accuracy", 0) > self.threshold
        return {"flow" if flow else "energy": self.lr_decay**update}

    def energy(self, nets: Nets) -> Energy:
        """The estimate of -log p(x): U(x) + c, minus log q_0(x) where there is a base."""
        return tilt(nets["energy"], flow_energy(cast(Flow, nets["base"]))) if self.frozen else nets["energy"]

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """The value of the game, how often energy and flow are distinguished correctly, and labels."""
        return ("value", "discriminator_accuracy", "accuracy")

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """`bits_per_dim` or `nll_nats` of p, as good as c, and of the flow; both energies; `accuracy` with heads."""
        x = batch["data"]["x"]
        dequantized, net = self.flow.dequantize(x, rng), cast(EnergyWithConstant, nets["energy"])
        energy, flow = self.energy(nets)(dequantized), flow_energy(flow_of(nets))(dequantized)
        metrics = {f"flow_{name}": value for name, value in self.flow.metrics(flow, x).items()}
        if self.labelled_batch_size and "label" in batch["data"]:
            metrics |= classification_metrics(net.heads(dequantized), batch["data"]["label"])
        return {**self.flow.metrics(energy, x), **metrics, "energy": energy, "energy_flow": flow}

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """Energy: -V, and the cross entropy of labels. Flow: V (eqs. 8, 9)."""
        x, net = self.flow.dequantize(batch["data"]["x"], rng), cast(EnergyWithConstant, nets["energy"])
        samples, sample_energy = sample_with_energy(flow_of(nets), standard_normal((len(x), x[0].numel()), rng))
        r_data = flow_energy(flow_of(nets))(x) - self.energy(nets)(x)
        r_samples = sample_energy - self.energy(nets)(samples)
        value = logsigmoid(r_data).mean() + logsigmoid(-r_samples).mean()
        accuracy = ((r_data > 0).float().mean() + (r_samples < 0).float().mean()) / 2
        metrics = {"value": value, "discriminator_accuracy": accuracy, "constant": net.constant}
        metrics["log_ratio"] = r_samples.mean() - r_data.mean()
        loss = -value
        if self.labelled_batch_size:
            dequantized = self.flow.dequantize(batch[LABELLED]["x"], rng)
            labels = classification_metrics(net.heads(dequantized), batch[LABELLED]["label"])
            metrics |= {name: metric.mean() for name, metric in labels.items()}
            loss = loss + self.label_weight * metrics["cross_entropy"]
        return {"energy": loss, "flow": value}, metrics
