"""Bags of words, and the encoder's Gaussian."""

import pytest
import torch
from torch.distributions import Multinomial, Normal, kl_divergence

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.nets.counts import SAMPLED_WORDS, CountsDecoder
from pipeline.nets.encoder import ConvEncoder, GaussianEncoder, build_encoder, reparameterize
from pipeline.rng import generator

FREQUENCY = (0.5, 0.25, 0.125, 0.125)
SPEC = Spec("counts", (4,), 2, FREQUENCY)
Z = torch.randn(6, 3, generator=generator(0))
X = torch.randint(0, 4, (6, 4), generator=generator(1)).float() + torch.tensor([1.0, 0, 0, 0])


@pytest.fixture
def trained():
    torch.manual_seed(0)
    decoder = CountsDecoder(3, SPEC, 8, 0.2)
    torch.nn.init.normal_(decoder.layers[-1].weight)
    return decoder


def test_a_new_decoder_has_the_background_frequencies():
    decoder = CountsDecoder(3, SPEC, 8, 0.2)
    assert torch.allclose(decoder(Z).exp(), torch.tensor(FREQUENCY).expand(6, 4))


def test_the_loss_is_that_of_a_multinomial_without_its_coefficient(trained):
    for x, log_p, loss in zip(X, trained(Z), trained.loss(Z, {"x": X}, 1.0), strict=True):
        law = Multinomial(int(x.sum()), logits=log_p)
        coefficient = torch.lgamma(x.sum() + 1) - torch.lgamma(x + 1).sum()
        assert torch.allclose(-loss, law.log_prob(x) - coefficient, atol=1e-4)


def test_nats_are_per_word_and_zero_for_an_empty_text(trained):
    x = X.clone()
    x[0] = 0
    loss = trained.loss(Z, {"x": x}, 1.0)
    nats = trained.metrics(loss, {"x": x}, 1.0)["nll_nats_per_word"]
    assert nats[0] == 0
    assert torch.allclose(nats[1:] * x[1:].sum(1), loss[1:])


def test_sampled_texts_have_the_words_probabilities(trained):
    z = Z[:1].expand(4000, 3)
    counts = trained.sample(z, generator(2))
    assert torch.equal(counts.sum(1), torch.full((4000,), float(SAMPLED_WORDS)))
    p = trained(Z[:1]).exp()[0].detach()
    assert torch.allclose(
        counts.mean(0) / SAMPLED_WORDS, p, atol=4 * float((p * (1 - p) / (4000 * SAMPLED_WORDS)).max().sqrt())
    )


def test_data_without_words_are_refused():
    with pytest.raises(InputError, match="no words"):
        CountsDecoder(3, Spec("counts", (4,), 2), 8, 0.2)


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_the_encoders_kl_is_that_of_gaussians(kind):
    torch.manual_seed(0)
    net = build_encoder(kind, Spec("image", (1, 9, 8), 0), 3, 4, 0.2)
    assert isinstance(net, ConvEncoder) == (kind == "conv")
    x = torch.rand(5, 1, 9, 8, generator=generator(3)) * 4 - 2
    mean, log_sd = net(x)
    _, kl = reparameterize(net, x, generator(4))
    assert torch.allclose(kl, kl_divergence(Normal(mean, log_sd.exp()), Normal(0.0, 1.0)).sum(1), atol=1e-5)


def test_the_encoder_samples_its_gaussian_and_drops_units_only_in_training_mode():
    torch.manual_seed(0)
    net = GaussianEncoder(Spec("vector", (2,), 0), 3, (32, 32), 0.2, dropout=0.5)
    x = torch.ones(4000, 2)
    assert not torch.equal(net(x)[0][0], net(x)[0][1])
    mean, log_sd = (t.detach() for t in net.eval()(x))
    assert torch.equal(mean[0], mean[1])
    z = reparameterize(net, x, generator(5))[0].detach()
    assert torch.allclose(z.mean(0), mean[0], atol=float(4 * log_sd.exp().max() / 4000**0.5))
    assert torch.allclose(z.std(0), log_sd.exp()[0], rtol=4 / 8000**0.5)
