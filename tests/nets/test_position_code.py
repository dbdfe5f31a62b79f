"""Vectors for positions: motion is orthogonal and exact, losses are unbiased, and isometry makes hexagons."""

import math

import pytest
import torch
from plane_waves import plane_wave_code

from pipeline.nets.position_code import PositionCode, draw_motions, exp_action, interpolate
from pipeline.nets.position_losses import isometry_loss, isotropy_loss, kernel_loss, pair_squares, read_out_loss
from pipeline.rng import generator, standard_normal


def test_the_action_of_the_exponential_is_that_of_torch():
    a = standard_normal((6, 6), generator(0))
    v = standard_normal((10, 6), generator(1))
    b = (a - a.T).double()
    acted = exp_action(lambda u: u @ b.T, v.double(), 30)
    torch.testing.assert_close(acted, v.double() @ torch.matrix_exp(b).T)


@pytest.mark.parametrize("directions", [0, 8])
def test_motion_is_the_exponential_of_its_generator_and_keeps_norms(directions):
    code = PositionCode(10, 3, 4, directions)
    v, motion = code(torch.zeros(5, 2)), 3 * standard_normal((5, 2), generator(0))
    motion[0] = torch.tensor([2.0, 0.0])
    moved = code.move(v, motion)
    torch.testing.assert_close(moved.norm(dim=2), v.norm(dim=2))
    first = 2 / 3 * code.generators[0]  # the first axis, and the first of the directions, in units of three cells
    torch.testing.assert_close(moved[0], torch.einsum("kij,kj->ki", torch.matrix_exp(first), v[0]))


def test_directions_between_two_of_the_table_have_generators_between_theirs():
    code, v = PositionCode(10, 1, 3, 4), torch.eye(3)[:1, None]
    motion = torch.tensor([[math.cos(math.pi / 4), math.sin(math.pi / 4)]])
    expected = (code.generators[0] + code.generators[1]) / 2 / 3
    torch.testing.assert_close(code.act(motion)(v)[0, 0], expected[0, :, 0])


def test_interpolation_is_exact_for_bilinear_functions_up_to_the_border():
    line = torch.arange(5.0)
    table = (1 + line[:, None] + 2 * line * line[:, None])[..., None]
    at = 4 * torch.rand(50, 2, generator=generator(0))
    at[:2] = torch.tensor([[0.0, 4.0], [4.0, 4.0]])
    torch.testing.assert_close(interpolate(table, at)[:, 0], 1 + at[:, 0] + 2 * at[:, 0] * at[:, 1])


def test_positions_are_decoded_between_the_points_of_the_lattice():
    code = plane_wave_code()
    at = 39 * torch.rand(200, 2, generator=generator(0))
    errors = (code.decode(code.at_cells(at)) - at).norm(dim=1)
    assert errors.mean() < 0.15
    torch.testing.assert_close(code.to_cells(code.to_square(at)), at)


def test_motions_stay_within_the_square_and_in_their_disc():
    at = 9 * torch.rand(10_000, 2, generator=generator(0))
    motion = draw_motions(at, 3.0, 10, generator(1))
    assert ((at + motion >= 0) & (at + motion <= 9)).all()
    assert motion.norm(dim=1).max() <= 3
    assert abs(motion.square().sum(1).mean() - 9 / 2) < 0.1  # uniform in the disc


def test_isometry_counts_the_pairs_that_are_expected():
    """With v = 0 every near pair has the error 1 - alpha d^2; its mean over the disc, less what the border cuts off."""
    code, scales = PositionCode(40, 2, 3), torch.tensor([30.0, 100.0])
    losses, exact = [], []
    for seed in range(30):
        cells = 39 * torch.rand(200, 2, generator=generator(seed))
        squares, pairs = pair_squares(cells, code.side)
        losses.append(isometry_loss(torch.zeros(200, 2, 3), squares, pairs, scales, 10 / 39))
        near = squares[:, None] <= (1.5 / scales).clamp(max=(10 / 39) ** 2)
        errors = ((1 - scales * squares[:, None]) / 2).square()
        exact.append(torch.stack([(errors * near).sum(0), near.sum(0)]))
    total, count = torch.stack(exact).sum(0)
    assert abs(torch.stack(losses).mean() / (total / count).sum() - 1) < 0.02


def test_losses_over_pairs_are_those_of_loops():
    v, cells = standard_normal((6, 2, 3), generator(0)), 39 * torch.rand(6, 2, generator=generator(1))
    squares, pairs = pair_squares(cells, 40)
    d2 = torch.cdist(cells, cells).square() / 39**2
    others = ~torch.eye(6, dtype=torch.bool)
    kernel = (-d2 / (2 * 0.08**2)).exp()
    products = torch.einsum("iku,jku->ij", v, v)
    torch.testing.assert_close(kernel_loss(v, squares, pairs, 0.08), (products - kernel)[others].square().mean())
    u = standard_normal((6, 6), generator(2))
    read = torch.einsum("iu,ju->ij", v.flatten(1), u)
    torch.testing.assert_close(read_out_loss(v, u, cells, 0.08 * 39), (read - kernel)[others].square().mean())


def test_isotropy_is_no_loss_where_every_direction_turns_alike():
    code, v = PositionCode(10, 1, 2, 16), torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])
    turn = torch.tensor([[0.0, -0.5], [0.5, 0.0]])
    with torch.no_grad():
        code.raw_generators.copy_(turn.expand(16, 1, 2, 2))
    assert isotropy_loss(code, v, generator(0)) < 1e-10
    with torch.no_grad():
        code.raw_generators[::2] *= 2
    assert isotropy_loss(code, v, generator(0)) > 1e-3


def fit_waves(seed, x, target):
    """Error, wave vectors and amplitudes of three plane waves of norm 1 fitted to a function at points."""
    k = (20 * torch.randn(3, 2, dtype=torch.float64, generator=generator(seed))).requires_grad_()
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    fit = torch.optim.LBFGS([k, logits], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        fit.zero_grad()
        error = ((x @ k.T).cos() @ logits.softmax(0) - target).square().mean()
        error.backward()
        return error

    fit.step(loss)
    return float(loss().detach()), k.detach(), logits.detach().softmax(0)


def test_three_waves_that_come_nearest_to_isometry_lie_60_degrees_apart():
    """Nearest to 1 - alpha r^2 on the disc r^2 <= 1.5 / alpha, from several starts: |k| = 2.41 sqrt(alpha)."""
    alpha, n = 72.0, 24
    radius = (1.5 / alpha) ** 0.5 * ((torch.arange(n) + 0.5) / n).sqrt()  # equal areas
    angle = 2 * math.pi * (torch.arange(n) + 0.5) / n
    x = (radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)).flatten(0, 1).double()
    error, k, amplitudes = min(fit_waves(seed, x, 1 - alpha * x.square().sum(1)) for seed in range(6))
    assert error == pytest.approx(0.0102, abs=2e-4)
    assert (k.norm(dim=1) / alpha**0.5).tolist() == pytest.approx([2.41] * 3, abs=0.01)
    directions = torch.rad2deg(torch.atan2(*k.flip(1).T)).remainder(180).sort().values
    gaps = torch.cat([directions.diff(), 180 - (directions[2:] - directions[:1])])
    assert gaps.tolist() == pytest.approx([60] * 3, abs=0.5)
    assert amplitudes.tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
