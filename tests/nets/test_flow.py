"""Flows: inverse maps, and their log-determinants."""

import math

import pytest
import torch

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.nets.couplings import decoders, encoders
from pipeline.nets.flow import Flow, FlowSettings, VectorFlow, build_flow, flow_energy, sample_with_energy
from pipeline.nets.glow import InvertibleConv, Logit
from pipeline.rng import generator, seeded

SHAPES = {
    "glow with a logit of (1, 8, 8)": ("glow", (1, 8, 8), 0.05, {"margin": 0.01}),
} | {
    f"{family} of {shape}": (family, shape)
    for family, shapes in {
        "spline": [(2,), (5,)],
        "affine": [(2,), (5,)],
        "gaussian": [(2,), (5,)],
        "glow": [(1, 8, 8), (3, 8, 8)],
    }.items()
    for shape in shapes
}


def settings(family, **others):
    return FlowSettings(family=family, **{"couplings": 3, "scales": 2, "hidden": 8, **others})


def flow_and_data(family, shape, perturbed=0.05, others=None):
    """A flow initialised from a batch, its weights perturbed; and the batch."""
    spec = Spec("image" if len(shape) == 3 else "vector", shape, 0)
    with seeded(0):
        net = build_flow(settings(family, **(others or {})), spec)
        x = torch.randn(50, *shape) @ torch.randn(shape[-1], shape[-1]) / shape[-1] ** 0.5 + 0.3
        net.init_from_data(x)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(perturbed * torch.randn_like(p))
    return net, x


@pytest.fixture(params=SHAPES)
def flow_and_batch(request):
    return flow_and_data(*SHAPES[request.param])


def test_encode_and_decode_are_inverse(flow_and_batch):
    net, x = flow_and_batch
    assert isinstance(net, Flow)
    z, _ = net.encode(x)
    assert z.shape == (len(x), x[0].numel())
    torch.testing.assert_close(net(z), x, rtol=1e-4, atol=1e-4)
    z = torch.randn(50, x[0].numel(), generator=generator(1))
    torch.testing.assert_close(net.encode(net(z))[0], z, rtol=1e-4, atol=1e-4)


def test_a_call_is_decode_without_the_log_det(flow_and_batch):
    net, x = flow_and_batch
    z = torch.randn(20, x[0].numel(), generator=generator(1))
    torch.testing.assert_close(net(z), net.decode(z)[0], rtol=1e-6, atol=1e-6)


def test_the_log_det_is_that_of_the_jacobian(flow_and_batch):
    net, x = flow_and_batch
    net, x = net.double(), x[:3].double()
    _, log_det = net.encode(x)
    for one, value in zip(x, log_det.detach(), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: net.encode(x[None])[0][0], one).reshape(one.numel(), -1)
        assert float(value) == pytest.approx(float(torch.linalg.slogdet(jacobian).logabsdet), abs=1e-6)


def test_encode_and_decode_return_the_same_log_det(flow_and_batch):
    net, x = flow_and_batch
    z, log_det = net.encode(x)
    torch.testing.assert_close(net.decode(z)[1], log_det, rtol=1e-4, atol=1e-3)
    z = torch.randn(50, x[0].numel(), generator=generator(1))
    x, energy = sample_with_energy(net, z)
    torch.testing.assert_close(flow_energy(net)(x), energy, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("d", [1, 2, 5, 6])
@pytest.mark.parametrize("family", ["spline", "affine"])
def test_couplings_are_zukos(family, d):
    net, x = flow_and_data(family, (d,), perturbed=0.3)
    zukos, x = net.couplings().transform, 3 * x
    for ours, theirs in ((encoders, zukos), (decoders, zukos.inv)):
        own, other, log_det = x.clone().requires_grad_(), x.clone().requires_grad_(), 0.0
        y = own
        for one in ours(net.couplings):
            y, of_one = one(y)
            log_det = log_det + of_one()
        expected, of_theirs = theirs.call_and_ladj(other)
        assert torch.equal(y, expected)
        torch.testing.assert_close(log_det, of_theirs if theirs is zukos else -of_theirs, rtol=1e-5, atol=1e-4)
        slopes = [torch.autograd.grad(out.square().sum(), start)[0] for out, start in ((y, own), (expected, other))]
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
        if family == "affine":
            assert torch.equal(*slopes)


def test_a_decoder_is_a_call_by_the_weights_of_its_time(flow_and_batch):
    net, x = flow_and_batch
    z = torch.randn(20, x[0].numel(), generator=generator(1))
    assert torch.equal(net.decoder()(z), net(z))


@pytest.mark.parametrize("family", ["spline", "affine", "gaussian"])
def test_a_density_in_the_plane_integrates_to_one(family):
    net, _ = flow_and_data(family, (2,), perturbed=0.1)
    line = torch.linspace(-10, 10, 501)
    with torch.no_grad():
        energy = flow_energy(net)(torch.cartesian_prod(line, line))
    assert float((-energy.double()).exp().sum()) * 0.04**2 == pytest.approx(1, abs=1e-3)


def test_a_new_glow_has_channels_of_mean_zero_and_variance_one(monkeypatch):
    calls = []

    def encode(self, x, plain=InvertibleConv.encode):
        calls.append((self, x))
        return plain(self, x)

    net, x = flow_and_data("glow", (3, 8, 8), perturbed=0.0)
    monkeypatch.setattr(InvertibleConv, "encode", encode)
    net.encode(x)
    assert len(calls) == 2 * 3
    for layer, inputs in calls:
        affine = (inputs + layer.shift[:, None, None]) * layer.log_scale.exp()[:, None, None]
        sd, mean = torch.std_mean(affine, (0, 2, 3))
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-5)
        torch.testing.assert_close(sd, torch.ones_like(sd), rtol=1e-4, atol=0)
        lower, upper = layer._factors()
        turn = lower @ upper
        torch.testing.assert_close(turn @ turn.T, torch.eye(len(turn)), rtol=0, atol=1e-5)


def test_the_logit_continues_as_straight_lines():
    logit = Logit(0.01)
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    share = (1.01 + x) / 2.02
    torch.testing.assert_close(logit.encode(x)[0], torch.logit(share))
    beyond = torch.tensor([[1.0], [2.0], [5.0], [-1.0], [-2.0]], dtype=torch.float64)
    y, log_det = logit.encode(beyond)
    torch.testing.assert_close(y - beyond * logit.slope, beyond.sign() * (logit.end - logit.slope))
    torch.testing.assert_close(log_det, torch.full((5,), logit.slope, dtype=torch.float64).log())
    identity, nothing = Logit(0.0).encode(beyond)
    assert torch.equal(identity, beyond)
    assert not nothing.any()


def test_the_gaussian_flow_has_the_moments_of_the_data():
    net, x = flow_and_data("gaussian", (5,))
    exact = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T))
    points = 2 * torch.randn(100, 5, generator=generator(1))
    with torch.no_grad():
        torch.testing.assert_close(flow_energy(net)(points), -exact.log_prob(points), rtol=1e-2, atol=1e-2)
    assert not list(net.parameters())


@pytest.mark.parametrize("family", ["spline", "affine"])
def test_couplings_receive_whitened_vectors(family, monkeypatch):
    net, x = flow_and_data(family, (5,))
    net.couplings = None
    z, _ = net.encode(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(5), rtol=0, atol=1e-2)


def test_a_constant_coordinate_has_some_width():
    net = VectorFlow(3, settings("gaussian"))
    x = torch.randn(100, 3, generator=generator(0)) * torch.tensor([1.0, 0.0, 1.0])
    net.init_from_data(x)
    assert flow_energy(net)(x).isfinite().all()


@pytest.mark.parametrize("levels", [17, 256])
def test_dequantized_pixels_are_uniform_in_their_levels_interval_and_quantize_inverts_them(levels):
    own = FlowSettings(levels=levels)
    k = torch.arange(levels).repeat(4 * 10**6 // levels).view(1, 1, levels, -1)
    x = k / (levels - 1) * 2 - 1
    dequantized = own.dequantize(x, generator(0))
    assert dequantized.min() >= -1
    assert dequantized.max() < 1
    assert torch.equal(((dequantized.double() + 1) / 2 * levels).floor(), k.double())
    assert torch.equal(own.quantize(dequantized), x)
    within = (dequantized.double() + 1) / 2 * levels - k
    n = within.numel()
    assert abs(within.mean() - 1 / 2) < 4 * (1 / 12 / n) ** 0.5
    assert abs(within.square().mean() - 1 / 3) < 4 * (4 / 45 / n) ** 0.5


def test_digits_of_17_levels_stored_as_bytes_are_exact_to_half_a_byte():
    k = torch.arange(17).view(1, 1, 1, 17)
    x = (k * (255 / 16)).round() / 127.5 - 1
    own = FlowSettings(levels=17)
    assert torch.equal(own.quantize(own.dequantize(x, generator(0))), k / 8 - 1)
    assert (x - (k / 8 - 1)).abs().max() < 0.501 / 127.5


def test_vectors_are_not_quantized():
    x = torch.randn(10, 3, generator=generator(0))
    assert torch.equal(FlowSettings().dequantize(x, generator(0)), x)
    assert torch.equal(FlowSettings().quantize(x), x)
    assert torch.equal(FlowSettings().metrics(x[:, 0], x)["nll_nats"], x[:, 0])


def test_pixels_beyond_the_levels_get_the_nearest():
    x = torch.tensor([-7.0, -1.0, 1.0, 7.0]).view(1, 1, 2, 2)
    assert FlowSettings().quantize(x).flatten().tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize("levels", [17, 256])
def test_a_uniform_density_has_log2_of_the_levels_bits_per_dim(levels):
    x = torch.zeros(2, 3, 4, 4)
    uniform = torch.full((2,), 3 * 4 * 4 * math.log(2))
    metrics = FlowSettings(levels=levels).metrics(uniform, x)
    assert metrics["bits_per_dim"].tolist() == pytest.approx([math.log2(levels)] * 2)


PLANE, IMAGE = Spec("vector", (2,), 0), Spec("image", (1, 8, 8), 10)


@pytest.mark.parametrize(
    ("family", "spec", "others", "complaint"),
    [
        ("glow", PLANE, {}, "family=glow"),
        ("spline", IMAGE, {}, "family=spline"),
        ("affine", Spec("text", (7,), 0), {}, "family=affine"),
        ("glow", IMAGE, {"scales": 4}, "scales=4: 8x8 pixels"),
        ("affine", PLANE, {"couplings": 0}, "couplings=0"),
        ("affine", PLANE, {"hidden": 0}, "hidden=0"),
        ("glow", IMAGE, {"levels": 1}, "levels=1"),
        ("glow", IMAGE, {"margin": -0.1}, "margin=-0.1"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_in_one_line(family, spec, others, complaint):
    with pytest.raises(InputError, match=complaint) as raised:
        build_flow(settings(family, **others), spec)
    assert "\n" not in str(raised.value)
