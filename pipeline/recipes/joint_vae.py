"""Joint Training of Variational Auto-Encoder and Latent Energy-Based Model.

Tian Han, Erik Nijkamp, Linqi Zhou, Bo Pang, Song-Chun Zhu, Ying Nian Wu. CVPR 2020, arXiv:2006.06059. Algorithm 1.

Three joint densities of (x, z): Q = data x encoder, P = prior x generator, Pi ~ exp(-U(x, z)). Encoder and generator
minimise the divergence triangle KL(Q|P) + KL(P|Pi) - KL(Q|Pi), and the energy maximises it. The partition function of
Pi cancels: the energy learns from the difference of its expectations under Q and P, and no chain is needed.

Deviations from the paper:
1. No batch normalisation, which would couple the items of a lane. Encoder, generator and energy are MLPs.
2. At `elbo_weight` 1 the encoder's terms in the entropy of Q cancel exactly, as in the paper's objective; its code
   keeps a one-sample estimate of both.
3. A penalty on U^2 in the energy's loss replaces spectral normalisation, whose state ranks would not share. Without it
   U and the generated samples diverge.
4. No weight decay, and constant learning rates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from pipeline.batch import Spec
from pipeline.energies.energy import gaussian
from pipeline.latent import LatentRecipe
from pipeline.nets.encoder import GaussianEncoder
from pipeline.nets.generator import MLPGenerator, decoder_of
from pipeline.nets.mlp import MLPEnergy
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, LossesAndMetrics, Metrics
from pipeline.rng import standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class JointVAE(LatentRecipe):
    """A VAE and a joint energy of data and latent vectors, which learn from each other.

    >>> recipe = JointVAE(latent_dim=8, width=16)
    >>> list(recipe.nets(Spec("vector", (2,), 0))), recipe.chains
    (['energy', 'encoder', 'generator'], {})
    """

    latent_dim: PositiveInt = 16
    """Dimension of z."""
    sigma: Positive = 0.7
    """Standard deviation of the data about the generator's output; sqrt(1/2) in the paper's code."""
    batch_size: PositiveInt = 100
    """Data items, and generated ones, per update, over all lanes."""
    energy_weight: NonNegative = 1.0
    """Weight of the energy in the losses of encoder and generator; 0: a VAE."""
    penalty: NonNegative = 0.1
    """Weight of U^2, over data and generated pairs, in the energy's loss."""
    elbo_weight: NonNegative = 1.0
    """Weight of KL(Q|P) in the losses of encoder and generator (lamb in the code)."""
    energy_lr: NonNegative = 1e-4
    """Learning rate of the energy."""
    autoencoder_lr: NonNegative = 3e-4
    """Learning rate of encoder and generator."""
    width: PositiveInt = 512
    """Units of the two hidden layers of each network."""
    leaky_slope: NonNegative = 0.2
    """Slope of LeakyReLU below 0."""

    def nets(self, spec: Spec) -> Nets:
        """The energy U(x, z) >= 0, the encoder q(z|x), and the generator g."""
        widths = (self.width, self.width)
        return {
            "energy": MLPEnergy(spec.size + self.latent_dim, widths, self.leaky_slope),
            "encoder": GaussianEncoder(spec, self.latent_dim, widths, self.leaky_slope),
            "generator": MLPGenerator(self.latent_dim, spec, widths, self.leaky_slope),
        }

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with betas (0, .9) (code)."""
        rates = {"energy": self.energy_lr, "encoder": self.autoencoder_lr, "generator": self.autoencoder_lr}
        return {name: Adam(nets[name].parameters(), rate, betas=(0.0, 0.9)) for name, rate in rates.items()}

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """No steps."""
        return Langevin.textbook(0, 0.1)

    def joint(self, nets: Nets, x: Tensor, z: Tensor) -> Tensor:
        """U(x, z) of n pairs, bounded below by softplus."""
        return softplus(nets["energy"](torch.cat([x.flatten(1), z], 1)))

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """At the encoder's mean z: `mse`, `energy` U(x, z) (section 4.3), and `energy_vae` -log p(x, z) of the VAE."""
        items, (mean, _) = batch["data"], nets["encoder"](batch["data"]["x"])
        loss = decoder_of(nets).loss(mean, items, self.sigma)
        energies = {"energy": self.joint(nets, items["x"], mean), "energy_vae": loss + gaussian()(mean)}
        return {**decoder_of(nets).metrics(loss, items, self.sigma), **energies}

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """Each network's part of the divergence triangle (eqs. 9-11)."""
        items, x = batch["data"], batch["data"]["x"]
        (mean, log_sd), prior = nets["encoder"](x), standard_normal((len(x), self.latent_dim), rng)
        z = mean + log_sd.exp() * standard_normal(tuple(mean.shape), rng)
        loss, generated = decoder_of(nets).loss(z, items, self.sigma), nets["generator"](prior)
        data, model = self.joint(nets, x, z), self.joint(nets, generated, prior)
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
