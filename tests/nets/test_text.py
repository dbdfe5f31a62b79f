from itertools import product

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.batch import Spec
from pipeline.energies.energy import autograd_gradient
from pipeline.errors import InputError
from pipeline.nets.generator import Decoder, ReconstructionEnergy, build_decoder
from pipeline.nets.text import SentenceDecoder, SentenceEncoder
from pipeline.rng import generator as seeded_generator
from pipeline.rng import seeded

SPEC = Spec("text", (7,), 0, (0.0, 0.2, 0.1, 0.3, 0.25, 0.15))
TINY = Spec("text", (3,), 0, (0.0, 0.4, 0.2, 0.4))


def net_of(spec=SPEC, make=lambda spec: SentenceDecoder(3, spec, 8)):
    """A network whose weights are large enough for every one of them to matter."""
    with seeded(0):
        net = make(spec).eval().requires_grad_(False)
        for p in net.parameters():
            p.add_(0.5 * torch.randn_like(p))
    return net


def batch(*sentences, longest=7):
    x = torch.tensor([[*s, 1] + [0] * (longest - len(s) - 1) for s in sentences])
    return {"x": x, "length": (x > 0).sum(1)}


ITEMS = batch([3, 4, 2], [], [5, 5, 3, 2, 4, 3], [4])
Z = torch.randn(4, 3, generator=seeded_generator(1))


def gru(net, x, h):
    """One step of a gated recurrent unit, written out."""
    r, u, n = (net.weight_ih_l0 @ x + net.bias_ih_l0).chunk(3)
    a, b, c = (net.weight_hh_l0 @ h + net.bias_hh_l0).chunk(3)
    u = (u + b).sigmoid()
    return (1 - u) * (n + (r + a).sigmoid() * c).tanh() + u * h


def test_the_loss_is_the_sum_over_words():
    net = net_of()
    for sentence, z, loss in zip(ITEMS["x"], Z, net.loss(Z, ITEMS, 0.3), strict=True):
        state, before, total = (net.first.weight @ z + net.first.bias).tanh(), 0, 0.0
        for place, word in enumerate(sentence.tolist()):
            if place == 6:  # where a sentence must end
                break
            state = gru(net.gru, torch.cat([net.embedding.weight[before], z]), state)
            scores = net.embedding.weight[1:] @ (net.last.weight @ torch.cat([state, z]) + net.last.bias) + net.bias
            total -= float(scores.log_softmax(0)[word - 1])
            before = word
            if word == 1:
                break
        assert float(loss) == pytest.approx(total, rel=1e-5)


class NoHostSync(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


def test_an_energys_words_are_located_before_the_first_step():
    net = net_of()
    energy = ReconstructionEnergy(ITEMS, net, 0.3)
    with NoHostSync():
        slope = autograd_gradient(energy, Z)
        with pytest.raises(AssertionError):
            net.loss(Z, ITEMS, 0.3)
    assert torch.equal(energy(Z), net.loss(Z, ITEMS, 0.3))
    assert torch.equal(slope, autograd_gradient(lambda z: net.loss(z, ITEMS, 0.3), Z))
    assert energy.items["x"].shape == (4, 6)  # without the place where every sentence must end
    assert torch.equal(energy.items["length"], ITEMS["length"])


def test_padding_and_other_sentences_change_nothing():
    net = net_of()
    together = net.loss(Z, ITEMS, 1.0)
    alone = [net.loss(Z[i : i + 1], {k: v[i : i + 1] for k, v in ITEMS.items()}, 1.0) for i in range(4)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-6)
    encoder = net_of(make=lambda spec: SentenceEncoder(spec, 3, 8))
    mean, log_sd = encoder(ITEMS["x"])
    for i in range(4):
        for single, other in zip(encoder(ITEMS["x"][i : i + 1]), (mean, log_sd), strict=True):
            assert torch.allclose(single[0], other[i], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(mean[0], mean[1], atol=0.01)


def test_the_gradient_in_z_is_that_of_finite_differences():
    net = net_of().double()
    z = Z.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: net.loss(z, ITEMS, 1.0), z)


def test_sentences_are_sampled_with_the_probability_of_their_loss():
    net, n = net_of(TINY), 20_000
    every = [s for length in range(3) for s in product((2, 3), repeat=length)]
    items, z = batch(*every, longest=3), Z[:1].expand(len(every), -1)
    p = (-net.loss(z, items, 1.0)).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    sentences = net.sample(Z[:1].expand(n, -1), seeded_generator(2))
    share = (sentences[:, None] == items["x"]).all(2).float().mean(0)
    assert float(share.sum()) == pytest.approx(1, abs=1e-6)
    assert ((share - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()
    assert torch.equal(sentences, net.sample(Z[:1].expand(n, -1), seeded_generator(2)))


def test_samples_are_sentences():
    sentences = net_of().sample(torch.randn(200, 3, generator=seeded_generator(3)), seeded_generator(4))
    length = (sentences > 0).sum(1)
    assert sentences.shape == (200, 7)
    assert (sentences.gather(1, length[:, None] - 1) == 1).all()
    assert ((sentences == 1).sum(1) == 1).all()
    assert sentences.max() < len(SPEC.frequency)
    assert length.unique().tolist() == list(range(1, 8))


def test_with_zero_embeddings_words_have_their_frequencies():
    with seeded(0):
        net = SentenceDecoder(3, SPEC, 8).eval().requires_grad_(False)
    net.embedding.weight.zero_()
    items = batch([], [3, 3])
    expected = -torch.tensor([SPEC.frequency[1], (SPEC.frequency[3] ** 2 * SPEC.frequency[1]) ** (1 / 3)]).log()
    assert torch.allclose(net.metrics(net.loss(Z[:2], items, 1.0), items, 1.0)["nll_nats_per_word"], expected)


def test_text_has_a_recurrent_decoder_and_small_sizes_are_refused():
    net = build_decoder("conv", 3, SPEC, 8, 0.2)
    assert isinstance(net, SentenceDecoder)
    assert isinstance(net, Decoder)
    for latent_dim, width, complaint in ((0, 8, "latent_dim=0"), (3, 1, "width=1: must be 2")):
        with pytest.raises(InputError, match=complaint):
            build_decoder("mlp", latent_dim, SPEC, width, 0.2)
        with pytest.raises(InputError, match=complaint):
            SentenceEncoder(SPEC, latent_dim, width)
    with pytest.raises(InputError, match="no words"):
        SentenceDecoder(3, Spec("text", (1,), 0, (0.0, 1.0)), 8)
