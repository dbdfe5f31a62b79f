"""Features of data, and the files of weights that they need."""

from urllib.error import URLError

import numpy as np
import pytest
import torch

from pipeline.data.dataset import load_data
from pipeline.errors import InputError
from pipeline.evaluation.judges.classifier import trained_classifier
from pipeline.evaluation.judges.features import (
    classifier_features,
    coordinate_features,
    inception_features,
    select_features,
    squeezenet_features,
)
from pipeline.nets.squeezenet import SqueezeNet, _preprocess
from pipeline.rng import generator, seeded

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def layers():
    with seeded(0):
        net = SqueezeNet()
    return {"/".join(name.rsplit(".", 1)).replace(".", "/"): t.numpy() for name, t in net.state_dict().items()}


def test_features_of_a_classifier_are_its_last_hidden_layer_and_of_coordinates_the_data():
    data = load_data("digits")
    x, net = data.batch(np.arange(230))["x"], trained_classifier(data)
    batch = classifier_features(data)(x)
    torch.testing.assert_close(batch.features, net.features(x).double())
    torch.testing.assert_close(batch.logits, net(x).double())
    assert torch.equal(coordinate_features()(x).features, x.flatten(1).double())
    with pytest.raises(InputError, match="features=classifier: only images have these features"):
        select_features("classifier", load_data("rings"), "", "", CPU)


def test_squeezenet_with_a_file_of_weights(tmp_path, layers):
    np.savez(tmp_path / "net.npz", **layers)
    features = squeezenet_features(str(tmp_path / "net.npz"))
    assert len(layers) == 52  # of 26 layers
    assert layers["fire9/conv3x3_2/weight"].shape == (256, 64, 3, 3)
    x = torch.rand(3, 1, 8, 8, generator=generator(0)) * 2 - 1
    batch = features(x)
    assert (batch.features.shape, batch.logits.shape) == ((3, 512), (3, 1000))
    torch.testing.assert_close(batch.features, features(x.expand(-1, 3, -1, -1)).features)
    torch.testing.assert_close(batch.features[1:], features(x[1:]).features)
    assert features.name.startswith("squeezenet ")
    assert "fid" not in (features.frechet, features.kernel, features.score)


def test_the_input_of_squeezenet_is_blue_first_in_bytes_minus_their_mean():
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    inputs = _preprocess(red * 1.5)
    assert inputs.shape == (1, 3, 227, 227)
    for channel, value in enumerate((-104.0, -117.0, 255 - 123.0)):
        torch.testing.assert_close(inputs[0, channel], torch.full((227, 227), value), rtol=0, atol=1e-3)


def test_a_file_without_squeezenet_is_refused_in_one_line(tmp_path, layers):
    path = tmp_path / "net.npz"
    with pytest.raises(InputError, match="there is no such file"):
        squeezenet_features(str(path))
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match=r"not an .npz that can be read"):
        squeezenet_features(str(path))
    np.savez(path, **{name: a for name, a in layers.items() if name != "fire3/conv1x1_1/bias"})
    with pytest.raises(InputError, match=r'no SqueezeNet v1.0: .*"fire3.conv1x1_1.bias"'):
        squeezenet_features(str(path))
    np.savez(path, **{**layers, "conv1/weight": np.zeros((96, 3, 3, 3), np.float32)})
    with pytest.raises(InputError, match=r"size mismatch for conv1.weight"):
        squeezenet_features(str(path))
    with pytest.raises(InputError, match=r"features=squeezenet: needs the \.npz of its weights"):
        select_features("squeezenet", load_data("digits"), "", "", CPU)


def test_a_file_without_inception_is_refused_in_one_line(tmp_path):
    path = tmp_path / "inception.pth"
    with pytest.raises(InputError, match="there is no such file"):
        inception_features(str(path))
    path.write_text("no weights")
    with pytest.raises(InputError, match="not a file of weights"):
        inception_features(str(path))
    torch.save({"a": [print]}, path)  # code in the file is not executed
    with pytest.raises(InputError, match="not a file of weights"):
        inception_features(str(path))


def test_inception_as_torch_fidelity_runs_it(tmp_path, monkeypatch):
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    def fails(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(fidelity, "load_state_dict_from_url", fails)
    with pytest.raises(InputError, match=r"cannot be downloaded .*no network.*: set inception_weights to a file"):
        inception_features()
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds no Inception-v3"):
        inception_features(str(tmp_path / "other.pth"))
    monkeypatch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda net, weights: None)
    features = inception_features()
    batch = features(torch.rand(2, 1, 8, 8, generator=generator(0)))
    assert (batch.features.shape, batch.logits.shape) == ((2, 2048), (2, 1008))
    assert (features.frechet, features.kernel, features.score) == ("fid", "kid", "inception_score")
