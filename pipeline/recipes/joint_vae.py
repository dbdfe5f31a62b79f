"""Joint Training of Variational Auto-Encoder and Latent Energy-Based Model.

Tian Han, Erik Nijkamp, Linqi Zhou, Bo Pang, Song-Chun Zhu, Ying Nian Wu. CVPR 2020, arXiv:2006.06059. Algorithm 1.

Three joint densities of (x, z): Q = data x encoder, P = prior x generator, Pi ~ exp(-U(x, z)). The divergence triangle
KL(Q|P) + KL(P|Pi) - KL(Q|Pi) is minimised by encoder and generator and maximised by the energy, whose partition
function cancels: it learns by the difference of expectations under Q and P, and nothing needs a chain.

Deviations from the paper:
1. No batch normalisation: it would couple the items of a lane. The encoder, the generator and the energy are MLPs.
2. The encoder's terms in the entropy of Q cancel exactly at `elbo_weight` 1, as they do in the paper's objective; its
   code keeps a one-sample estimate of both.
3. U^2 has a price in the energy's loss, in place of spectral normalisation, whose state ranks would not share. Without
   it U runs away, and what is generated with it.
4. No weight decay, and rates that stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian
from pipeline.nets.encoder import GaussianEncoder
from pipeline.nets.generator import MLPGenerator, decoder_of
from pipeline.nets.mlp import MLPEnergy
from pipeline.nets.weights import Nets
from pipeline.recipe import ChainStates, LatentLikelihood, Recipe
from pipeline.rng import standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class JointVAE(Recipe):
    """A VAE and a joint energy of data and latent vector, each learning from the other."""

    latent_dim: PositiveInt = 16
    """Dimension of z."""
    sigma: Positive = 0.7
    """Standard deviation of the data about the generator's output; the paper's code has sqrt(1/2)."""
    batch_size: PositiveInt = 100
    """Data items an update, and generated ones, over all lanes."""
    energy_weight: NonNegative = 1.0
    """Weight of the energy in the losses of encoder and generator; 0: a VAE."""
    penalty: NonNegative = 0.1
    """Weight of U^2, over both kinds of pairs, in the energy's own loss, which bounds it."""
    elbo_weight: NonNegative = 1.0
    """Weight of KL(Q|P) in the encoder's and generator's losses (the code's lamb)."""
    energy_lr: NonNegative = 1e-4
    """Learning rate of the energy."""
    autoencoder_lr: NonNegative = 3e-4
    """Learning rate of encoder and generator."""
    width: PositiveInt = 512
    """Units of each network's two hidden layers."""
    leaky_slope: NonNegative = 0.2
    """LeakyReLU's slope below 0."""

    @property
    def sample_chain(self) -> str:
        """Vectors of the prior, which no step moves."""
        return "prior"

    def nets(self, spec: Spec) -> Nets:
        """The energy U(x, z) >= 0, the encoder q(z|x), and the generator."""
        widths = (self.width, self.width)
        return {
            "energy": MLPEnergy(spec.size + self.latent_dim, widths, self.leaky_slope),
            "encoder": GaussianEncoder(spec, self.latent_dim, widths, self.leaky_slope),
            "generator": MLPGenerator(self.latent_dim, spec, widths, self.leaky_slope),
        }

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with betas (0, .9) (code)."""
        rates = {"energy": self.energy_lr, "encoder": self.autoencoder_lr, "generator": self.autoencoder_lr}
        return {
            name: Adam(nets[name].parameters(), autoencoder_lr, betas=(0.0, 0.9))
            for name, autoencoder_lr in rates.items()
        }

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """No steps."""
        return Langevin.textbook(0, 0.1)

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """N(0, I)."""
        return standard_normal((n, self.latent_dim), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """|z|^2/2."""
        return gaussian()

    def likelihood(self, nets: Nets) -> LatentLikelihood:
        """The generator, with `sigma`."""
        return LatentLikelihood(decoder_of(nets), self.sigma)

    def joint(self, nets: Nets, x: Tensor, z: Tensor) -> Tensor:
        """U(x, z) of n pairs; softplus bounds it below, and so its learning."""
        return softplus(nets["energy"](torch.cat([x.flatten(1), z], 1)))

    def item_metrics(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator
    ) -> dict[str, Tensor]:
        """At z = mu(x): `mse`, `energy` U(x, z) (section 4.3), and `energy_vae`, -log p(x, z) of the generator."""
        items, (mean, _) = batch["data"], nets["encoder"](batch["data"]["x"])
        loss = decoder_of(nets).loss(mean, items, self.sigma)
        energies = {"energy": self.joint(nets, items["x"], mean), "energy_vae": loss + gaussian()(mean)}
        return {**decoder_of(nets).metrics(loss, items, self.sigma), **energies}

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The triangle, each network's part (eqs. 9-11)."""
        items, x = batch["data"], batch["data"]["x"]
        (mean, log_sd), prior = nets["encoder"](x), standard_normal((len(x), self.latent_dim), rng)
        z = mean + log_sd.exp() * standard_normal(tuple(mean.shape), rng)
        loss, made = decoder_of(nets).loss(z, items, self.sigma), nets["generator"](prior)
        data, model = self.joint(nets, x, z), self.joint(nets, made, prior)
        reconstruction, cross = loss.mean(), gaussian()(z).mean()
        entropy, w = log_sd.sum(1).mean(), self.energy_weight
        return {
            "energy": data.mean() - model.mean() + self.penalty * (data.square() + model.square()).mean(),
            "encoder": self.elbo_weight * (reconstruction + cross - entropy) - w * (data.mean() - entropy),
            "generator": self.elbo_weight * reconstruction + w * model.mean(),
        }, {
            "energy/gap": data.mean() - model.mean(),
            "energy/data": data.mean(),
            "energy/model": model.mean(),
            "log_sd": log_sd.mean(),
            **{name: value.mean() for name, value in decoder_of(nets).metrics(loss, items, self.sigma).items()},
        }
