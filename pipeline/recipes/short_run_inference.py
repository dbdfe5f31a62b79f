"""Learning Multi-layer Latent Variable Model via Variational Optimization of Short Run MCMC for Approximate Inference.

Erik Nijkamp, Bo Pang, Tian Han, Linqi Zhou, Song-Chun Zhu, Ying Nian Wu. ECCV 2020, arXiv:1912.01909. Algorithm 1.

A generator of L stochastic layers, written so that all noise is N(0, I). Its posterior is sampled by K Langevin steps
from N(0, I), anew for each batch; their size s is chosen so that KL(q_s(z|x) || p(z|x)) is least, where the map from
the start to the end of a chain gives the density of q_s by its log-determinant (section 3.3).

Deviations from the paper:
1. The grid that s is searched in is of multiples of the present s; each lane searches on its own items, and log s
   becomes the mean of what they find.
2. Layers are MLPs, and their log standard deviations within [-1, 1]; the paper's are convolutional, for 64x64 images.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian, tilt
from pipeline.errors import InputError
from pipeline.nets.generator import decoder_of, reconstruction_energy
from pipeline.nets.layered import LayeredGenerator, StepSize
from pipeline.nets.weights import Nets
from pipeline.recipe import ChainSettings, ChainStates, LatentLikelihood, Recipe
from pipeline.rng import fold, generator, standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.samplers.short_run_density import short_run_divergence
from pipeline.settings import Count, NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class ShortRunInference(Recipe):
    """Short-run inference (SRI) of a generator with L layers."""

    latent_dims: tuple[PositiveInt, ...] = (16,)
    """Dimensions of the layers' noise, top layer first."""
    steps: PositiveInt = 25
    """Langevin steps of the posterior's chains (K)."""
    step_size: Positive = 0.05
    """Their step size at the beginning (s); stable while s / sigma is small beside the generator's slope."""
    tune_every: Count = 250
    """Updates between searches for the step size of least KL; 0: it stays."""
    tune_items: Count = 8
    """Items of each lane that the search goes by."""
    tune_grid: tuple[Positive, ...] = (0.5, 0.7, 0.84, 1.0, 1.19, 1.41, 2.0)
    """What is searched, in multiples of the present step size."""
    sigma: Positive = 0.15
    """Standard deviation of the data about the generator's output, in units of the data's [-1, 1]."""
    batch_size: PositiveInt = 100
    """Data items and chains an update, over all lanes."""
    lr: NonNegative = 1e-3
    """Learning rate of Adam."""
    width: PositiveInt = 512
    """Units of the generator's layers."""
    leaky_slope: NonNegative = 0.2
    """LeakyReLU's slope below 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tune_items", "tune_grid"):
            if self.tune_every and not getattr(self, name):
                raise InputError("is needed for the search, unless tune_every is 0", name, getattr(self, name))

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain a datum of the batch, anew each time."""
        return {"posterior": ChainSettings(self.batch_size, context="data")}

    @property
    def sample_chain(self) -> str:
        """Vectors of the prior, which no step moves."""
        return "prior"

    def nets(self, spec: Spec) -> Nets:
        """The generator, and the step size."""
        net = LayeredGenerator(self.latent_dims, spec, self.width, self.leaky_slope)
        return {"generator": net, "step": StepSize(self.step_size)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with beta1 .5 for the generator (code); for the step size what takes it where its loss is 0."""
        adam = Adam(nets["generator"].parameters(), self.lr, betas=(0.5, 0.999))
        return {"generator": adam, "step": SGD(nets["step"].parameters(), 1.0)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The generator, and every so often the step size."""
        return {"generator": 1.0, "step": 1.0} if self._tunes(update) else {"generator": 1.0}

    def _tunes(self, update: int) -> bool:
        return bool(self.tune_every) and update % self.tune_every == self.tune_every - 1

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """Posterior: K steps of s. Prior: none."""
        return Langevin.textbook(self.steps if chain == "posterior" else 0, float(nets["step"]().detach()))

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """N(0, I)."""
        return standard_normal((n, sum(self.latent_dims)), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """|z|^2/2, and for the posterior |x - g(z)|^2 / (2 sigma^2) too."""
        if context is None:
            return gaussian()
        return tilt(reconstruction_energy(context, decoder_of(nets), self.sigma), gaussian())

    def best_step(self, nets: Nets, items: Batch, rng: torch.Generator) -> float:
        """The step size of the grid whose KL, averaged over the items, is least; with the same noise for all."""
        z, seed = standard_normal((len(items["x"]), sum(self.latent_dims)), rng), fold(rng.initial_seed(), "search")
        target, tried = (
            self.target("posterior", nets, items),
            [float(nets["step"]().detach()) * by for by in self.tune_grid],
        )
        kernels = [Langevin.textbook(self.steps, step) for step in tried]
        kl = torch.stack([short_run_divergence(target, k, z, generator(seed, z.device)).mean() for k in kernels])
        return tried[int(torch.where(kl.isfinite(), kl, torch.inf).argmin())]  # where chains blow up is not best

    def likelihood(self, nets: Nets) -> LatentLikelihood:
        """The generator, with `sigma`."""
        return LatentLikelihood(decoder_of(nets), self.sigma)

    def item_metrics(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator
    ) -> dict[str, Tensor]:
        """At posterior states: what the decoder tells, and `energy` -log p(x, z) without normalisers."""
        items, z = batch["data"], chains["posterior"].x
        loss = decoder_of(nets).loss(z, items, self.sigma)
        return {**decoder_of(nets).metrics(loss, items, self.sigma), "energy": loss + gaussian()(z)}

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The reconstruction at the posterior's states (eq. 9); in its turn, how far the step is from the best."""
        items = batch["data"]
        loss = decoder_of(nets).loss(chains["posterior"].x, items, self.sigma)
        step = nets["step"]()
        way = torch.zeros((), device=step.device)
        if self._tunes(update):
            some = {name: of_all[: self.tune_items] for name, of_all in items.items()}
            way = (step.log() - math.log(self.best_step(nets, some, rng))).square() / 2
        told = {name: value.mean() for name, value in decoder_of(nets).metrics(loss, items, self.sigma).items()}
        return {"generator": loss.mean(), "step": way}, {**told, "step": step}
