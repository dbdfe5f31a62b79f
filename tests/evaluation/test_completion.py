"""Hidden coordinates, and their expected values, against closed forms."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from pipeline.energies.energy import gaussian, tilt
from pipeline.errors import InputError
from pipeline.evaluation.metrics.completion import PPCA, fit_ppca, masked_errors, observed_mask, ppca_completion
from pipeline.nets.generator import GaussianDecoder, ReconstructionEnergy
from pipeline.rng import generator
from pipeline.samplers.langevin import Langevin

D, K = 6, 2


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed))


MODEL = PPCA(normal(0, D).double(), normal(1, D, K).double(), 0.3)


def test_the_completion_is_the_conditional_mean_of_the_gaussian():
    covariance = MODEL.loadings @ MODEL.loadings.T + MODEL.variance * torch.eye(D)
    x, observed = normal(2, 5, D).double(), torch.tensor([0, 1, 1, 0, 1, 0]).expand(5, D).double()
    o, h = observed[0].bool(), ~observed[0].bool()
    gain = covariance[h][:, o] @ torch.linalg.inv(covariance[o][:, o])
    expected = MODEL.mean[h] + (x[:, o] - MODEL.mean[o]) @ gain.T
    torch.testing.assert_close(ppca_completion(MODEL, x, observed)[:, h], expected)


def test_the_factors_are_the_principal_components():
    x = (normal(3, 300, K) @ normal(4, K, D) + 0.2 * normal(5, 300, D)).view(300, 2, 3)
    flat = x.flatten(1).double().numpy()
    pca, model = PCA(K).fit(flat), fit_ppca(x, K)
    covariance = model.loadings @ model.loadings.T + model.variance * torch.eye(D)
    np.testing.assert_allclose(covariance.numpy(), pca.get_covariance(), rtol=1e-8)
    projected, completed = pca.inverse_transform(pca.transform(flat)), ppca_completion(model, x, torch.ones_like(x))
    np.testing.assert_allclose(completed.flatten(1), projected, rtol=1e-4, atol=1e-5)
    assert fit_ppca(x, 100).loadings.shape == (D, D - 1)


class Decoder(nn.Linear, GaussianDecoder):
    """The factors as a decoder."""

    def __init__(self):
        super().__init__(K, D)
        self.weight.data, self.bias.data = MODEL.loadings.float(), MODEL.mean.float()


def test_posterior_chains_complete_by_the_conditional_mean_and_never_see_hidden_coordinates():
    n, net = 4000, Decoder()
    x, observed = normal(2, 1, D).expand(n, D), torch.tensor([0, 1, 1, 0, 1, 0]).expand(n, D).float()
    ends = []
    for items in (x, x + 100 * (1 - observed)):
        target = tilt(ReconstructionEnergy({"x": items, "observed": observed}, net, MODEL.variance**0.5), gaussian())
        with torch.no_grad():
            z, _ = Langevin.textbook(200, 0.15)(target, normal(6, n, K), generator(7))
            ends.append(net(z))
    assert torch.equal(*ends)
    expected = ppca_completion(MODEL, x[:1], observed[:1])[0]
    error = ends[0].std(0) / n**0.5
    assert ((ends[0].mean(0) - expected).abs() < 4 * error).all()
    assert error.max() < 0.05


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_mask_hides_the_requested_share_at_the_requested_place(share):
    shape, n = (3, 8, 8), 5
    for side in ("left", "right", "top", "bottom", "centre", "random"):
        observed = observed_mask(side, share, shape, n, generator(0))
        assert observed.shape == (n, *shape)
        assert observed.unique().tolist() in ([0, 1], [1])
        assert ((1 - observed).flatten(1).mean(1) - share).abs().max() < (0.07 if side == "centre" else 1e-6)
        assert torch.equal(observed, observed[:, :1].expand_as(observed))  # the channels of a pixel together
    cut = round(8 * share)
    assert observed_mask("left", share, shape, n, generator(0))[..., :cut].sum() == 0
    assert observed_mask("right", share, shape, n, generator(0))[..., 8 - cut :].sum() == 0
    assert observed_mask("top", share, shape, n, generator(0))[..., :cut, :].sum() == 0
    assert observed_mask("bottom", share, shape, n, generator(0))[..., 8 - cut :, :].sum() == 0


def test_random_coordinates_differ_between_items_and_vectors_have_no_sides():
    observed = observed_mask("random", 0.5, (40,), 2, generator(0))
    assert (observed.sum(1) == 20).all()
    assert not torch.equal(observed[0], observed[1])
    with pytest.raises(InputError, match="hide=top: vectors have no sides"):
        observed_mask("top", 0.5, (40,), 2, generator(0))


def test_errors_are_over_the_coordinates_that_they_name():
    x, observed = torch.zeros(2, 4), torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0]])
    completed = torch.tensor([[1.0, 1, 3, 3], [1, 3, 1, 3]])
    assert masked_errors(x, completed, observed) == {"hidden": 9.0, "observed": 1.0}
    assert masked_errors(x, completed, torch.ones(2, 4)) == {"observed": 5.0}
