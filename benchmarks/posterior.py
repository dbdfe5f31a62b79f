"""Chain-steps a second of the latent recipe's posterior |x - g(z)|^2 / (2 sigma^2) + f(z) + |z|^2/2, of 28x28 images.

Twenty steps of size .1, sigma .3. The papers' code has two backward passes a step, one through g and one through f, and
z itself for the Gaussian; its weights are contiguous. The other side is one backward pass of autograd for the whole
sum, with our networks.
"""

from copy import deepcopy
from functools import partial

import torch

from benchmarks.loops import DEVICE, plain
from benchmarks.timing import Row, faster, in_turns
from pipeline.batch import Spec
from pipeline.nets.weights import eval_copy
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.rng import generator, seeded

SHAPE = (1, 28, 28)
GENERATORS = {"MLP of 256": LatentPrior(architecture="mlp", width=256), "convolutions of 16": LatentPrior(width=16)}
ROUNDS = {"MLP of 256": 10, "convolutions of 16": 3}
CHAINS = (16, 100)


def twice(nets, x, z, sampler, sigma):
    z = z.clone().requires_grad_()
    for _ in range(sampler.steps):
        error = (nets["generator"](z) - x).square().sum() / (2 * sigma**2)
        (by_generator,) = torch.autograd.grad(error, z)
        (by_energy,) = torch.autograd.grad(nets["energy"](z).sum(), z)
        slope = by_generator + by_energy + z.data
        z.data = z.data - sampler.drift * slope + sampler.noise * torch.randn_like(z)
    return z.detach()


def measured(name: str, n: int) -> list[Row]:
    recipe = GENERATORS[name]
    with seeded(0):
        nets = eval_copy(recipe.nets(Spec("image", SHAPE, 0)))
    nets = {key: net.to(DEVICE) for key, net in nets.items()}
    rng, sampler = generator(0, DEVICE), recipe.sampler("posterior", nets, 0)
    z = torch.randn(n, recipe.latent_dim, generator=generator(1)).to(DEVICE)
    x = (2 * torch.rand(n, *SHAPE, generator=generator(2)) - 1).to(DEVICE)
    target = recipe.target("posterior", nets, {"x": x})
    theirs = {key: deepcopy(net).to(memory_format=torch.contiguous_format) for key, net in nets.items()}

    def move():
        with torch.no_grad():
            sampler(target, z, rng)

    sides = {
        "ours": move,
        "two backward passes": partial(twice, theirs, x, z, sampler, recipe.sigma),
        "one backward pass of the sum": partial(plain, target, z, sampler.steps, sampler.drift, sampler.noise),
    }
    seconds = in_turns(sides, ROUNDS[name], DEVICE)
    rates = {side: n * sampler.steps / spent for side, spent in seconds.items()}
    mine, size = rates.pop("ours"), f"posterior through {name}, {n} chains"
    return [faster(f"{size}: {side}", "chain-steps/s", mine, rate) for side, rate in rates.items()]


def rows() -> list[Row]:
    return [row for name in GENERATORS for n in CHAINS for row in measured(name, n)]
