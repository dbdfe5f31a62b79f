"""Semi-supervised Learning by Latent Space Energy-Based Model of Symbol-Vector Coupling.

Bo Pang, Erik Nijkamp, Jiali Cui, Tian Han, Ying Nian Wu. 2020, arXiv:2010.09359. Section 3, algorithm 1.

p(y, z) ~ exp(F(z)_y) N(z; 0, I) couples a symbol y and a vector z, from which x is generated. So log sum_k exp F(z)_k
tilts the prior of z, whose samples are short Langevin chains', and softmax F(z) is a classifier. An encoder q(z|x)
stands for the posterior; the cross entropy of known labels at its mean is the encoder's loss and F's.

Deviations from the paper, whose code is that of counts of words:
1. No batch normalisation: it would couple the items of a lane. LeakyReLU everywhere, and no Wide ResNet for images.
2. Rates fall by `decay` at each update. Those of encoder and generator, equal in the code, are one.
3. `information` (0: the paper's) adds -w I(z; y), of a lane, for encoder and F, as its extension does (ICML 2021).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian, tilt
from pipeline.errors import InputError
from pipeline.nets.encoder import build_encoder, reparameterize
from pipeline.nets.generator import build_decoder, decoder_of
from pipeline.nets.mlp import MLP
from pipeline.nets.symbols import joint, label_metrics, marginal, symbol_usage
from pipeline.nets.weights import Nets
from pipeline.recipe import ChainSettings, ChainStates, LatentLikelihood, Recipe
from pipeline.rng import standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, Decay, NonNegative, Positive, PositiveInt, Share


@dataclass(frozen=True)
class SymbolVector(Recipe):
    """The energy-based model of symbol and vector (SVEBM); its network `energy` is F."""

    latent_dim: PositiveInt = 100
    """Dimension of z."""
    symbols: Count = 0
    """Symbols K; 0: as many as the data have classes."""
    prior_steps: Count = 100
    """Langevin steps of the prior's chains (K)."""
    prior_step_size: Positive = 0.4
    """Their step size (s): drift s^2/2, noise s."""
    sigma: Positive = 0.3
    """Standard deviation of images and vectors about the generator's output, in units of the data."""
    batch_size: PositiveInt = 200
    """Data items and prior chains an update, over all lanes; their labels are not looked at."""
    labelled_batch_size: Count = 200
    """Items of known label an update, over all lanes; 0: none."""
    label_weight: NonNegative = 200.0
    """Weight of the cross entropy (lambda)."""
    information: NonNegative = 0.0
    """Weight w of I(z; y)."""
    tilt: NonNegative = 1.0
    """What log sum_k exp F(z)_k is multiplied by in the prior; 0: the prior is N(0, I), and no chain is run."""
    energy_lr: NonNegative = 1e-5
    """Learning rate of F."""
    autoencoder_lr: NonNegative = 1e-4
    """Learning rate of encoder and generator."""
    lr_decay: Decay = 1.0
    """Factor of all learning rates at each update; 1: they stay."""
    architecture: Literal["conv", "mlp"] = "conv"
    """Encoder and generator of images: convolutions, or MLPs with two hidden layers. Others have MLPs."""
    width: PositiveInt = 64
    """Channels of the encoder's first layer and before the generator's last; units of an MLP's layers."""
    dropout: Share = 0.0
    """Share of the encoder's units that are dropped in learning; the code has .5."""

    @property
    def data_kinds(self) -> frozenset[str]:
        """All kinds."""
        return frozenset({"image", "vector", "counts", "text"})

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """The prior's, if it is tilted; they start anew at every update."""
        return {"prior": ChainSettings(self.batch_size)} if self.tilt else {}

    @property
    def sample_chain(self) -> str:
        """The prior's."""
        return "prior"

    @property
    def streams(self) -> Mapping[str, int]:
        """Data, and those whose label is known."""
        return {"data": self.batch_size, **({"labelled": self.labelled_batch_size} if self.labelled_batch_size else {})}

    @property
    def class_chain(self) -> str:
        """Samples of p(z|y)."""
        return "class"

    def num_classes(self, spec: Spec) -> int:
        """As many as there are symbols."""
        return self.symbols or spec.num_classes

    def nets(self, spec: Spec) -> Nets:
        """F (d-200-200-K), encoder and generator."""
        leaky_slope, symbols = 0.2, self.num_classes(spec)
        if self.labelled_batch_size and not spec.num_classes:
            raise InputError(
                "the data have no labels; 0 learns without", "labelled_batch_size", self.labelled_batch_size
            )
        least = spec.num_classes if self.labelled_batch_size else 1
        if symbols < least:
            raise InputError(f"must be {least} or more, so that each label has its own", "symbols", symbols)
        return {
            "energy": MLP(self.latent_dim, (200, 200), symbols, leaky_slope),
            "encoder": build_encoder(self.architecture, spec, self.latent_dim, self.width, leaky_slope, self.dropout),
            "generator": build_decoder(self.architecture, self.latent_dim, spec, self.width, leaky_slope),
        }

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam, with the weight decays of the code, and its betas (.5, .999) for the generator."""
        energy = Adam(nets["energy"].parameters(), self.energy_lr, weight_decay=1e-3)
        encoder = Adam(nets["encoder"].parameters(), self.autoencoder_lr, weight_decay=2e-3)
        generator = Adam(nets["generator"].parameters(), self.autoencoder_lr, betas=(0.5, 0.999))
        return {"energy": energy, "encoder": encoder, "generator": generator}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """All three; F only if there is something for it to learn."""
        learns = self.tilt or self.information or self.labelled_batch_size
        return dict.fromkeys(("encoder", "generator", *(["energy"] if learns else [])), self.lr_decay**update)

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """K steps of s; none for a prior that is N(0, I)."""
        return Langevin.textbook(self.prior_steps if self.tilt or chain == "class" else 0, self.prior_step_size)

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """N(0, I)."""
        return standard_normal((n, self.latent_dim), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """|z|^2/2 - log sum_k exp F(z)_k, or |z|^2/2 - F(z)_y for labels y."""
        energy = joint(nets["energy"], self.tilt, context["label"]) if context else marginal(nets["energy"], self.tilt)
        return tilt(energy, gaussian())

    def likelihood(self, nets: Nets) -> LatentLikelihood:
        """The generator, with `sigma`."""
        return LatentLikelihood(decoder_of(nets), self.sigma)

    def item_metrics(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator
    ) -> dict[str, Tensor]:
        """At the encoder's mean m: what the decoder tells, `energy` -log p(x, m) without normalisers, `accuracy`."""
        items, (mean, _) = batch["data"], nets["encoder"](batch["data"]["x"])
        loss, learned = (
            decoder_of(nets).loss(mean, items, self.sigma),
            label_metrics(nets, items) if self.labelled_batch_size else {},
        )
        told, prior = decoder_of(nets).metrics(loss, items, self.sigma), self.target("prior", nets, None)(mean)
        return {**told, **learned, "energy": loss + prior}

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Each network's part of the variational bound and of the cross entropy (algorithm 1)."""
        items, labelled, f = batch["data"], batch.get("labelled"), marginal(nets["energy"], self.tilt)
        z, kl = reparameterize(nets["encoder"], items["x"], rng)
        loss = decoder_of(nets).loss(z, items, self.sigma)
        posterior, prior = f(z).mean(), f(chains["prior"].x if chains else z).mean()
        told = {**decoder_of(nets).metrics(loss, items, self.sigma), **label_metrics(nets, labelled), "kl": kl}
        metrics = {name: value.mean() for name, value in told.items()} | symbol_usage(nets["energy"](z))
        symbol = self.label_weight * metrics.get("cross_entropy", 0) - self.information * metrics["information"]
        bound, contrast = (loss + kl).mean() + posterior, posterior - prior
        losses = {"energy": contrast + symbol, "encoder": bound + symbol, "generator": loss.mean()}
        return losses, {**metrics, "energy/gap": contrast, "energy/posterior": posterior, "energy/prior": prior}
