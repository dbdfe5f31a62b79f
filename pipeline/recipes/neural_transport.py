"""Learning Energy-Based Model with Flow-Based Backbone by Neural Transport MCMC.

Erik Nijkamp, Ruiqi Gao, Pavel Sountsov, Srinivas Vasudevan, Bo Pang, Song-Chun Zhu, Ying Nian Wu. ICLR 2022,
arXiv:2006.06897 (MCMC Should Mix).

The model is an exponential tilt of a pretrained flow, p(x) ~ exp(-U(x)) q(x). With x = g(z) the Jacobian cancels, and
p(z) ~ exp(-U(g(z))) N(z; 0, I): chains move in z, where they mix, and the flow maps them to data. Draws of N(0, I)
estimate log Z = log E exp(-U(g(z))); their effective sample size says how well. The paper writes f for our -U.

Deviations from the paper, which has no code:
1. The settings are ours: networks, K, kernel, step size and learning rates.
2. A `bank` keeps chains from update to update; in the paper they start anew (0).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian, tilt
from pipeline.flow_latent import FlowLatentRecipe
from pipeline.nets.conv import build_energy
from pipeline.nets.flow import FlowSettings, build_flow, flow_energy, flow_of
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, ChainSettings, LossesAndMetrics, Metrics
from pipeline.rng import standard_normal
from pipeline.samplers.hmc import HMC
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, Decay, NonNegative, Positive, PositiveInt, Probability


@dataclass(frozen=True)
class NeuralTransport(FlowLatentRecipe):
    """An energy on a flow backbone (NT-EBM); the flow comes from another run.

    >>> NeuralTransport(steps=10, leapfrog_steps=5).sampler("model", {}, 0).gradient_evaluations
    51
    """

    flow: FlowSettings = FlowSettings()
    kernel: Literal["hmc", "langevin"] = "hmc"
    """Kernel of the chains in z, at temperature 1; only hmc corrects for the size of its steps."""
    steps: PositiveInt = 20
    """Proposals of hmc, or steps of langevin (K)."""
    leapfrog_steps: PositiveInt = 3
    """Leapfrog steps per proposal; times the step size well below pi, where z would be mirrored rather than mixed."""
    step_size: Positive = 0.2
    """Length of a leapfrog step, or step size s of langevin: drift s^2/2, noise s."""
    batch_size: PositiveInt = 100
    """Data items and chains per update, over all lanes."""
    bank: Count = 0
    """Persistent chains, over all lanes; 0: every chain starts from N(0, I) (the paper's)."""
    restart_prob: Probability = 0.0
    """Probability that a chain drawn from the bank starts anew."""
    energy_lr: NonNegative = 1e-4
    """Learning rate of the energy."""
    lr_decay: Decay = 1.0
    """Factor of the learning rate at each update; 1: it is constant."""
    width: PositiveInt = 32
    """Channels of the ConvNet's first layer, or units of the MLP's three layers."""
    leaky_slope: NonNegative = 0.2
    """Slope of LeakyReLU below 0."""
    base_samples: PositiveInt = 200
    """Draws of N(0, I) that estimate log Z for each batch of held-out items; learning uses as many as it has items."""

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain in z."""
        return {"model": ChainSettings(self.batch_size, bank=self.bank, restart_prob=self.restart_prob)}

    @property
    def sample_chain(self) -> str:
        """The chain that learning runs."""
        return "model"

    @property
    def frozen(self) -> frozenset[str]:
        """The flow."""
        return frozenset({"flow"})

    @property
    def requires_pretrained(self) -> frozenset[str]:
        """The flow."""
        return self.frozen

    def nets(self, spec: Spec) -> Nets:
        """The energy U, a ConvNet for images or an MLP for vectors, and the flow g."""
        energy = build_energy(spec, self.width, self.leaky_slope)
        return {"energy": energy, "flow": build_flow(self.flow, spec).requires_grad_(False)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam, for the energy."""
        return {"energy": Adam(nets["energy"].parameters(), self.energy_lr)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """Exponential decay."""
        return {"energy": self.lr_decay**update}

    def sampler(self, chain: str, nets: Nets, update: int) -> HMC | Langevin:
        """K steps of the kernel."""
        if self.kernel == "hmc":
            return HMC(self.steps, self.leapfrog_steps, self.step_size)
        return Langevin.textbook(self.steps, self.step_size)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """U(g(z)) + |z|^2/2."""
        energy, g = nets["energy"], flow_of(nets).decoder()
        return tilt(lambda z: energy(g(z)), gaussian())

    def energy(self, nets: Nets) -> Energy:
        """U(x) - log q(x), without normaliser."""
        return tilt(nets["energy"], flow_energy(flow_of(nets)))

    def estimate_log_z(self, nets: Nets, n: int, d: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """log Z from n draws of N(0, I), and its effective share of them; near 0, the estimate is too low."""
        with torch.no_grad():
            log_weight = -nets["energy"](nets["flow"](standard_normal((n, d), rng)))
        return log_weight.logsumexp(0) - math.log(n), 1 / log_weight.softmax(0).square().sum() / n

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """Of the energy and its chains."""
        return ("energy/gap", "chains/grad_norm", "chains/acceptance_rate")

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """`bits_per_dim` or `nll_nats` of p, with the estimated log Z, and of the flow; the energies of both."""
        x = batch["data"]["x"]
        dequantized = self.flow.dequantize(x, rng)
        flow, energy = flow_energy(flow_of(nets))(dequantized), self.energy(nets)(dequantized)
        log_z, share = self.estimate_log_z(nets, self.base_samples, x[0].numel(), rng)
        metrics = {f"flow_{name}": value for name, value in self.flow.metrics(flow, x).items()}
        metrics |= {"log_z": log_z.expand(len(x)), "log_z_ess": share.expand(len(x))}
        return {**self.flow.metrics(energy + log_z, x), **metrics, "energy": energy, "energy_flow": flow}

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """U(x) - U(g(z_K)) (eq. 9)."""
        x = batch["data"]["x"]
        with torch.no_grad():
            samples = nets["flow"](chains["model"].x)
        data, model = nets["energy"](self.flow.dequantize(x, rng)).mean(), nets["energy"](samples).mean()
        log_z, share = self.estimate_log_z(nets, len(x), x[0].numel(), rng)
        metrics = {"log_z": log_z, "log_z_ess": share, "energy/data": data, "energy/model": model}
        return {"energy": data - model}, {"energy/gap": data - model, **metrics}
