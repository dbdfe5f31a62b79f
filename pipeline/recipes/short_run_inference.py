"""Learning Multi-layer Latent Variable Model via Variational Optimization of Short Run MCMC for Approximate Inference.

Erik Nijkamp, Bo Pang, Tian Han, Linqi Zhou, Song-Chun Zhu, Ying Nian Wu. ECCV 2020, arXiv:1912.01909. Algorithm 1.

A generator of L stochastic layers, written so that all noise is N(0, I). Its posterior is sampled by K Langevin steps
from N(0, I), anew for each batch; their size s is chosen so that KL(q_s(z|x) || p(z|x)) is least, where the map from
the start to the end of a chain gives the density of q_s by its log-determinant (section 3.3).

Deviations from the paper:
1. s takes a step of Adam on that KL every `tune_every` updates; the paper searches a grid every few epochs.
2. Layers are MLPs; the paper's, for 64x64 images, are convolutional.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies import Energy, gaussian, tilt
from pipeline.nets.generator import decoder, mismatch
from pipeline.nets.layered import LayeredGenerator, StepSize
from pipeline.recipe import ChainSettings, Moved, Recipe
from pipeline.rng import noise
from pipeline.samplers import Langevin, short_run_divergence
from pipeline.weights import Nets


@dataclass(frozen=True)
class ShortRunInference(Recipe):
    """Short-run inference (SRI) of a generator with L layers."""

    latents: tuple[int, ...] = (16,)
    """Dimensions of the layers' noise, top layer first."""
    steps: int = 25
    """Langevin steps of the posterior's chains (K)."""
    step: float = 0.05
    """Their step size at the beginning (s); stable while s / sigma is small beside the generator's slope."""
    tune_every: int = 100
    """Updates between steps of Adam on the step size; 0: it stays."""
    tune_items: int = 8
    """Items of each lane that the step size is tuned on."""
    tune_rate: float = 0.05
    """Learning rate of the logarithm of the step size."""
    sigma: float = 0.15
    """Standard deviation of the data about the generator's output, in units of the data's [-1, 1]."""
    batch: int = 100
    """Data items and chains an update, over all lanes."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    width: int = 512
    """Units of the generator's layers."""
    slope: float = 0.2
    """LeakyReLU's slope below 0."""

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain a datum of the batch, anew each time."""
        return {"posterior": ChainSettings(self.batch, context="data")}

    @property
    def model(self) -> str:
        """Vectors of the prior, which no step moves."""
        return "prior"

    @property
    def streams(self) -> Mapping[str, int]:
        """Data alone."""
        return {"data": self.batch}

    def nets(self, spec: Spec) -> Nets:
        """The generator, and the step size."""
        generator = LayeredGenerator(self.latents, spec, self.width, self.slope)
        return {"generator": generator, "step": StepSize(self.step)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with beta1 .5 for the generator (code)."""
        rates = {"generator": self.learning_rate, "step": self.tune_rate}
        return {name: Adam(nets[name].parameters(), rate, betas=(0.5, 0.999)) for name, rate in rates.items()}

    def players(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The generator, and every so often the step size."""
        return {"generator": 1.0, "step": 1.0} if self._tunes(update) else {"generator": 1.0}

    def _tunes(self, update: int) -> bool:
        return bool(self.tune_every) and update % self.tune_every == self.tune_every - 1

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """Posterior: K steps of s. Prior: none."""
        return Langevin.textbook(self.steps if chain == "posterior" else 0, float(nets["step"]().detach()))

    def start(self, chain: str, n: int, rng: torch.Generator, nets: Nets, batch: dict[str, Batch]) -> Tensor:
        """N(0, I)."""
        return noise("gaussian", (n, sum(self.latents)), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """|z|^2/2, and for the posterior |x - g(z)|^2 / (2 sigma^2) too."""
        if context is None:
            return gaussian()
        return tilt(mismatch(context, decoder(nets), self.sigma), gaussian())

    def joint(self, nets: Nets) -> Callable[[Tensor, Tensor], Tensor]:
        """The posterior's energy of one z (l,) and one item x, with the generator's weights held still."""
        net = nets["generator"]
        weights = {name: p.detach() for name, p in net.named_parameters()}

        def energy(z: Tensor, x: Tensor) -> Tensor:
            made = functional_call(net, weights, (z[None],))[0]
            return (x - made).square().sum() / (2 * self.sigma**2) + z.square().sum() / 2

        return energy

    def decode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor:
        """Drawn by the decoder."""
        return decoder(nets).draw(x, rng)

    def scores(self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, Moved]) -> dict[str, Tensor]:
        """At posterior states: what the decoder tells, and `energy` -log p(x, z) without normalisers."""
        items, z = batch["data"], chains["posterior"].x
        loss = decoder(nets).loss(z, items, self.sigma)
        return {**decoder(nets).told(loss, items, self.sigma), "energy": loss + gaussian()(z)}

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, Moved], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The reconstruction at the posterior's states (eq. 9); and, when its turn comes, the KL of the step size."""
        items, x = batch["data"], batch["data"]["x"]
        loss = decoder(nets).loss(chains["posterior"].x, items, self.sigma)
        step, divergent = nets["step"](), torch.zeros((), device=x.device)
        if self._tunes(update):
            some = x[: self.tune_items]
            z = noise("gaussian", (len(some), sum(self.latents)), rng)
            xi = noise("gaussian", (len(some), self.steps, sum(self.latents)), rng)
            divergent = short_run_divergence(self.joint(nets), some, z, xi, step).mean()
        told = {name: value.mean() for name, value in decoder(nets).told(loss, items, self.sigma).items()}
        return {"generator": loss.mean(), "step": divergent}, {**told, "step": step}
