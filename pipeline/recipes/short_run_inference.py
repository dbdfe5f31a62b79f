"""Learning Multi-layer Latent Variable Model via Variational Optimization of Short Run MCMC for Approximate Inference.

Erik Nijkamp, Bo Pang, Tian Han, Linqi Zhou, Song-Chun Zhu, Ying Nian Wu. ECCV 2020, arXiv:1912.01909. Algorithm 1.

A generator of L stochastic layers, parameterised so that all noise is N(0, I). K Langevin steps from N(0, I), anew for
each batch, sample its posterior. Their size s minimises KL(q_s(z|x) || p(z|x)); the log-determinant of a chain as a map
of its start gives the density of q_s (section 3.3).

Deviations from the paper:
1. The grid of step sizes consists of multiples of the present s. Each lane searches on its own items, and log s becomes
   the mean of the lanes' results.
2. Layers are MLPs with log standard deviations in [-1, 1]; the paper's are convolutional, for 64x64 images.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.optim import SGD, Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.errors import InputError
from pipeline.latent import LatentRecipe
from pipeline.nets.generator import decoder_of
from pipeline.nets.layered import LayeredGenerator, StepSize
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, ChainSettings, LossesAndMetrics
from pipeline.rng import fold, generator, standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.samplers.short_run_density import short_run_divergence
from pipeline.settings import Count, NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class ShortRunInference(LatentRecipe):
    """Short-run inference (SRI) of a generator with L layers.

    >>> recipe = ShortRunInference(latent_dims=(8, 16), tune_every=100)
    >>> recipe.latent_dim, recipe.learning_rate_factors(99, {})
    (24, {'generator': 1.0, 'step_size': 1.0})
    """

    latent_dims: tuple[PositiveInt, ...] = (16,)
    """Dimensions of the layers' noise, top layer first."""
    steps: PositiveInt = 25
    """Langevin steps of the posterior's chains (K)."""
    step_size: Positive = 0.05
    """Initial step size of the posterior's chains (s); stable while s / sigma is small beside the generator's slope."""
    tune_every: Count = 250
    """Updates between searches for the best step size; 0: it is constant."""
    tune_items: Count = 8
    """Items per lane that a search uses."""
    tune_grid: tuple[Positive, ...] = (0.5, 0.7, 0.84, 1.0, 1.19, 1.41, 2.0)
    """Step sizes that a search compares, in multiples of the present one."""
    sigma: Positive = 0.15
    """Standard deviation of the data about the generator's output, in units of the data's [-1, 1]."""
    batch_size: PositiveInt = 100
    """Data items and chains per update, over all lanes."""
    lr: NonNegative = 1e-3
    """Learning rate of Adam."""
    width: PositiveInt = 512
    """Units of the generator's layers."""
    leaky_slope: NonNegative = 0.2
    """Slope of LeakyReLU below 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tune_items", "tune_grid"):
            if self.tune_every and not getattr(self, name):
                raise InputError("is needed for the search, unless tune_every is 0", name, getattr(self, name))

    @property
    def latent_dim(self) -> int:  # type: ignore[override]
        """Dimension of the noise of all layers together."""
        return sum(self.latent_dims)

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain per datum of the batch; they start anew at every update."""
        return {"posterior": ChainSettings(self.batch_size, context="data")}

    def nets(self, spec: Spec) -> Nets:
        """The generator g, and the step size s."""
        net = LayeredGenerator(self.latent_dims, spec, self.width, self.leaky_slope)
        return {"generator": net, "step_size": StepSize(self.step_size)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Generator: Adam with beta1 .5 (code). Step size: SGD, which reaches the minimum of its loss in one step."""
        adam = Adam(nets["generator"].parameters(), self.lr, betas=(0.5, 0.999))
        return {"generator": adam, "step_size": SGD(nets["step_size"].parameters(), 1.0)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The generator, and every `tune_every` updates the step size."""
        return {"generator": 1.0, "step_size": 1.0} if self._tunes(update) else {"generator": 1.0}

    def _tunes(self, update: int) -> bool:
        return bool(self.tune_every) and update % self.tune_every == self.tune_every - 1

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """Posterior: K steps of size s. Prior: no steps."""
        return Langevin.textbook(self.steps if chain == "posterior" else 0, float(nets["step_size"]().detach()))

    def best_step_size(self, nets: Nets, items: Batch, rng: torch.Generator) -> float:
        """The step size of the grid with the smallest KL, averaged over items, under the same noise for all sizes."""
        z, seed = standard_normal((len(items["x"]), self.latent_dim), rng), fold(rng.initial_seed(), "search")
        target, present = self.target("posterior", nets, items), float(nets["step_size"]().detach())
        grid = [present * multiple for multiple in self.tune_grid]
        kernels = [Langevin.textbook(self.steps, size) for size in grid]
        kl = torch.stack([short_run_divergence(target, k, z, generator(seed, z.device)).mean() for k in kernels])
        return grid[int(torch.where(kl.isfinite(), kl, torch.inf).argmin())]  # KL is not finite where chains diverge

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """Generator: the reconstruction at posterior states (eq. 9). Step size: squared log distance to the best."""
        items = batch["data"]
        loss = decoder_of(nets).loss(chains["posterior"].x, items, self.sigma)
        size = nets["step_size"]()
        size_loss = torch.zeros((), device=size.device)
        if self._tunes(update):
            few = {name: values[: self.tune_items] for name, values in items.items()}
            size_loss = (size.log() - math.log(self.best_step_size(nets, few, rng))).square() / 2
        metrics = {name: value.mean() for name, value in decoder_of(nets).metrics(loss, items, self.sigma).items()}
        return {"generator": loss.mean(), "step_size": size_loss}, {**metrics, "step_size": size}
