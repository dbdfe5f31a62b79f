"""The step size of short-run inference, against the closed form of a linear generator."""

import torch

from pipeline.rng import generator
from pipeline.samplers import short_run_divergence

N, K, L, D, SIGMA = 4, 10, 3, 6, 0.5


def test_the_divergence_and_its_slope_are_those_of_the_closed_form():
    rng = generator(0)
    a, x, z, xi = (torch.randn(*shape, generator=rng) for shape in ((D, L), (N, D), (N, L), (N, K, L)))
    a = 0.3 * a
    step = torch.tensor(0.2, requires_grad=True)

    def energy(z, x):
        return (x - a @ z).square().sum() / (2 * SIGMA**2) + z.square().sum() / 2

    found = short_run_divergence(energy, x, z, xi, step)
    precision = torch.eye(L) + a.T @ a / SIGMA**2
    end = z
    for k in range(K):
        end = end - step**2 / 2 * (end @ precision - x @ a / SIGMA**2) + step * xi[:, k]
    log_det = K * torch.linalg.slogdet(torch.eye(L) - step**2 / 2 * precision).logabsdet
    joint = (x - end @ a.T).square().sum(1) / (2 * SIGMA**2) + end.square().sum(1) / 2
    wanted = joint - z.square().sum(1) / 2 - log_det
    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(value.mean(), step)[0] for value in (found, wanted)]
    torch.testing.assert_close(*slopes)
