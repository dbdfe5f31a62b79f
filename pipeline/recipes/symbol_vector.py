"""Semi-supervised Learning by Latent Space Energy-Based Model of Symbol-Vector Coupling.

Bo Pang, Erik Nijkamp, Jiali Cui, Tian Han, Ying Nian Wu. 2020, arXiv:2010.09359. Section 3, algorithm 1.

p(y, z) ~ exp(F(z)_y) N(z; 0, I) couples a symbol y and a vector z, which generates x. So log sum_k exp F(z)_k tilts the
prior of z, which short Langevin chains sample, and softmax F is a classifier. An encoder q(z|x) approximates the
posterior; encoder and F also learn from the cross entropy of known labels at the encoder's mean.

Deviations from the paper, whose code is for word counts:
1. No batch normalisation, which would couple the items of a lane. LeakyReLU everywhere, no Wide ResNet for images.
2. Learning rates decay at each update. Encoder and generator share one rate; in the code theirs are equal.
3. `information` (0 in the paper) adds -w I(z; y), per lane, for encoder and F, as its extension does (ICML 2021).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import LABELLED, Batch, Spec
from pipeline.energies.energy import Energy, gaussian, tilt
from pipeline.latent import ALL_KINDS, LatentRecipe
from pipeline.nets.encoder import build_encoder, reparameterize
from pipeline.nets.generator import build_decoder, decoder_of
from pipeline.nets.symbols import build_head, joint, label_metrics, labelled_classes, marginal, symbol_usage
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, ChainSettings, LossesAndMetrics, Metrics
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, Decay, NonNegative, Positive, PositiveInt, Share


@dataclass(frozen=True)
class SymbolVector(LatentRecipe):
    """The energy-based model of symbol and vector (SVEBM); its network `energy` is F.

    >>> SymbolVector(batch_size=100, labelled_batch_size=50).streams
    {'data': 100, 'labelled': 50}
    """

    latent_dim: PositiveInt = 100
    """Dimension of z."""
    symbols: Count = 0
    """Number of symbols K; 0: the number of classes of the data."""
    prior_steps: Count = 100
    """Langevin steps of the prior's chains (K)."""
    prior_step_size: Positive = 0.4
    """Step size of the prior's chains (s): drift s^2/2, noise s."""
    sigma: Positive = 0.3
    """Standard deviation of images and vectors about the generator's output, in units of the data."""
    batch_size: PositiveInt = 200
    """Data items, used without their labels, and prior chains per update, over all lanes."""
    labelled_batch_size: Count = 200
    """Items with known label per update, over all lanes; 0: none."""
    label_weight: NonNegative = 200.0
    """Weight of the cross entropy (lambda)."""
    information: NonNegative = 0.0
    """Weight w of I(z; y)."""
    tilt: NonNegative = 1.0
    """Factor of log sum_k exp F(z)_k in the prior; 0: the prior is N(0, I), and no chain runs."""
    energy_lr: NonNegative = 1e-5
    """Learning rate of F."""
    autoencoder_lr: NonNegative = 1e-4
    """Learning rate of encoder and generator."""
    lr_decay: Decay = 1.0
    """Factor of all learning rates at each update; 1: they are constant."""
    architecture: Literal["conv", "mlp"] = "conv"
    """Encoder and generator of images: convolutions, or MLPs with two hidden layers. Vectors and counts have MLPs."""
    width: PositiveInt = 64
    """Channels of the encoder's first and before the generator's last convolution; or units of an MLP's layers."""
    dropout: Share = 0.0
    """Dropout of the encoder; .5 in the code."""

    data_kinds = ALL_KINDS
    class_chain = "class"  # of p(z|y)

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """Chains of a tilted prior; they start anew at every update."""
        return {"prior": ChainSettings(self.batch_size)} if self.tilt else {}

    @property
    def streams(self) -> Mapping[str, int]:
        """All data, and items with known label."""
        return {"data": self.batch_size} | ({LABELLED: self.labelled_batch_size} if self.labelled_batch_size else {})

    def num_classes(self, spec: Spec) -> int:
        """The number of symbols."""
        return self.symbols or spec.num_classes

    def nets(self, spec: Spec) -> Nets:
        """F (d-200-200-K), encoder and generator."""
        slope, labels = 0.2, labelled_classes(spec, self.labelled_batch_size)
        return {
            "energy": build_head(self.latent_dim, self.num_classes(spec), labels, slope),
            "encoder": build_encoder(self.architecture, spec, self.latent_dim, self.width, slope, self.dropout),
            "generator": build_decoder(self.architecture, self.latent_dim, spec, self.width, slope),
        }

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with the code's weight decays, and for the generator its betas (.5, .999)."""
        return {
            "energy": Adam(nets["energy"].parameters(), self.energy_lr, weight_decay=1e-3),
            "encoder": Adam(nets["encoder"].parameters(), self.autoencoder_lr, weight_decay=2e-3),
            "generator": Adam(nets["generator"].parameters(), self.autoencoder_lr, betas=(0.5, 0.999)),
        }

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """Exponential decay; F learns only if one of its losses is not 0."""
        energy = ["energy"] if self.tilt or self.information or self.labelled_batch_size else []
        return dict.fromkeys(("encoder", "generator", *energy), self.lr_decay**update)

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """K steps of size s; none for a prior that is N(0, I)."""
        return Langevin.textbook(self.prior_steps if self.tilt or chain == "class" else 0, self.prior_step_size)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """Prior: |z|^2/2 - log sum_k exp F(z)_k. Class: |z|^2/2 - F(z)_y. (Both at tilt 1.)"""
        energy = joint(nets["energy"], self.tilt, context["label"]) if context else marginal(nets["energy"], self.tilt)
        return tilt(energy, gaussian())

    def class_scores(self, nets: Nets, x: Tensor) -> Tensor:
        """(n, k) scores F(z) of the symbols at the encoder's mean z."""
        return nets["energy"](nets["encoder"](x)[0])

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """At the encoder's mean z: the decoder's metrics, `energy` -log p(x, z) without normalisers, and `accuracy`."""
        items, (mean, _) = batch["data"], nets["encoder"](batch["data"]["x"])
        loss, labels = decoder_of(nets).loss(mean, items, self.sigma), items if self.labelled_batch_size else None
        metrics = {**decoder_of(nets).metrics(loss, items, self.sigma), **label_metrics(nets, labels)}
        return {**metrics, "energy": loss + self.target("prior", nets, None)(mean)}

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """Each network's part of the variational bound and of the cross entropy (algorithm 1)."""
        items, decoder, f = batch["data"], decoder_of(nets), marginal(nets["energy"], self.tilt)
        z, kl = reparameterize(nets["encoder"], items["x"], rng)
        loss = decoder.loss(z, items, self.sigma)
        posterior, prior = f(z).mean(), f(chains["prior"].x if chains else z).mean()
        of_items = {**decoder.metrics(loss, items, self.sigma), **label_metrics(nets, batch.get(LABELLED)), "kl": kl}
        metrics = {name: value.mean() for name, value in of_items.items()} | symbol_usage(nets["energy"](z))
        symbol = self.label_weight * metrics.get("cross_entropy", 0) - self.information * metrics["information"]
        bound, gap = (loss + kl).mean() + posterior, posterior - prior
        losses = {"energy": gap + symbol, "encoder": bound + symbol, "generator": loss.mean()}
        return losses, {**metrics, "energy/gap": gap, "energy/posterior": posterior, "energy/prior": prior}
