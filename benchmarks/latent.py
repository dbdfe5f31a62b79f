"""Chain-steps a second under the prior of the latent recipe, an MLP 100-200-200-1 that tilts N(0, I), beside others'.

Sixty steps of size .4. The plain loop is the papers' code: autograd for the network, and z itself for the Gaussian.
torchebm and ebmkit differentiate the sum. The limit is a step's four matrix products and its noise, in place.
"""

from functools import partial

import torch
from torch import nn

from benchmarks.loops import DEVICE, peers
from benchmarks.timing import Row, faster, in_turns
from pipeline.energies.energy import gaussian, tilt
from pipeline.nets.mlp import MLPEnergy
from pipeline.rng import generator, seeded
from pipeline.samplers.langevin import Langevin

LATENT, WIDTH, STEPS, STEP = 100, 200, 60, 0.4
ACTIVATIONS = {"LeakyReLU": nn.LeakyReLU(0.2), "GELU": nn.GELU()}
ROUNDS = {16: 100, 100: 50, 1000: 10}
"""Rounds of each number of chains."""


def network(activation: nn.Module) -> MLPEnergy:
    with seeded(0):
        net = MLPEnergy(LATENT, (WIDTH, WIDTH), 0.2)
    net[1] = net[3] = activation
    return net.to(DEVICE).eval().requires_grad_(False)


def plain(net, z):
    z = z.clone().requires_grad_()
    for _ in range(STEPS):
        (slope,) = torch.autograd.grad(net(z).sum(), z)
        z.data = z.data - STEP**2 / 2 * (slope + z.data) + STEP * torch.randn_like(z)
    return z.detach()


def products(net, z, rng):
    """What no step can do without: two products forth, two back, and the noise."""
    first, second = net[0].weight, net[2].weight
    forth = [weight.t().contiguous() for weight in (first, second)]
    hidden, between, xi = z.new_ones(len(z), WIDTH), z.new_empty(len(z), WIDTH), torch.empty_like(z)

    def run():
        for _ in range(STEPS):
            torch.mm(z, forth[0], out=between)
            torch.mm(hidden, forth[1], out=between)
            torch.mm(hidden, second, out=between)
            torch.mm(hidden, first, out=xi)
            xi.normal_(generator=rng)

    return run


def measured(activation: str, n: int, rounds: int, others: dict) -> list[Row]:
    net, rng = network(ACTIVATIONS[activation]), generator(0, DEVICE)
    z, target = torch.randn(n, LATENT, generator=generator(1)).to(DEVICE), tilt(net, gaussian())
    sampler = Langevin.textbook(STEPS, STEP)

    def move():
        with torch.no_grad():
            sampler(target, z, rng)

    sides = {"ours": move, "plain loop": partial(plain, net, z), "limit, its products and noise": products(net, z, rng)}
    for name, run in others.items():
        sides[name] = partial(run, target, z, STEPS, sampler.drift, sampler.noise)
    rates = {name: n * STEPS / seconds for name, seconds in in_turns(sides, rounds, DEVICE).items()}
    mine = rates.pop("ours")
    size = f"latent MLP, {activation}, {n} chains"
    return [faster(f"{size}: {name}", "chain-steps/s", mine, rate) for name, rate in rates.items()]


def rows() -> list[Row]:
    others = peers()
    return [row for kind in ACTIVATIONS for n, rounds in ROUNDS.items() for row in measured(kind, n, rounds, others)]
