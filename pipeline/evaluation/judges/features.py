"""Features over which samples and data are compared. Only over those of Inception-v3 is a Fréchet distance an FID."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.evaluation.judges.classifier import Classifier, trained_classifier, why_no_classifier
from pipeline.evaluation.protocol import MapFunction
from pipeline.nets.squeezenet import squeezenet
from pipeline.progress import track

PIECE = 100
"""Items that a network processes in one call; so the features of a piece depend on nothing else."""

FeatureKind: TypeAlias = Literal["classifier", "inception", "squeezenet", "coordinates"]
"""A small classifier of the data set itself; Inception-v3; SqueezeNet; the data's own numbers."""


class FeatureBatch(NamedTuple):
    """The features of n items."""

    features: Float[Tensor, "n f"]
    """float64."""
    logits: Float[Tensor, "n k"] | None
    """Unnormalised log-probabilities of classes; None where the network has no classes."""


@dataclass(frozen=True)
class Features:
    """A map from data to features, and the names of the statistics over them."""

    name: str
    """With a hash of the weights where they come from a file."""
    compute: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """(n, *d) data on the CPU -> (n, f) features and (n, k) logits, on the CPU; it can be sent to other processes."""
    frechet: str = "frechet"
    """Name of the Fréchet distance."""
    kernel: str = "kernel_distance"
    """Name of the kernel distance."""
    score: str = "class_score"
    """Name of the class score."""

    def __call__(self, x: Tensor, map_function: MapFunction = map) -> FeatureBatch:
        """Features of data (n, *d), piece by piece."""
        pieces = x.split(PIECE)
        watched = track(map_function(self.compute, pieces), len(pieces), f"evaluating {len(x):,} items", "piece")
        features, logits = zip(*watched, strict=True)
        known = [part.double() for part in logits if part is not None]
        return FeatureBatch(torch.cat([part.double() for part in features]), torch.cat(known) if known else None)


def select_features(
    kind: FeatureKind, data: Dataset, inception_weights: str, squeezenet_weights: str, device: torch.device
) -> Features:
    """The features of a kind.

    Args:
        kind: of features.
        data: what the model was trained on.
        inception_weights: torch-fidelity's file; empty: it is downloaded once.
        squeezenet_weights: an .npz.
        device: of the networks.

    Raises:
        InputError: the data have no such features, or a file is missing or broken.
    """
    if kind != "coordinates" and data.spec.kind != "image":
        raise InputError(f"only images have these features, not data of kind {data.spec.kind}", "features", kind)
    match kind:
        case "classifier":
            return classifier_features(data, device)
        case "squeezenet":
            return squeezenet_features(squeezenet_weights, device)
        case "inception":
            return inception_features(inception_weights, device)
        case "coordinates":
            return coordinate_features()


def classifier_features(data: Dataset, device: torch.device | str = "cpu") -> Features:
    """Features of the small classifier of the data's own classes. Raises InputError for data without classes."""
    if why := why_no_classifier(data):
        raise InputError(f"needs images with labels to train one: {why}", "features", "classifier")
    compute = partial(_apply_classifier, trained_classifier(data, device), device)
    return Features(f"classifier of {data.fingerprint}", compute)


def squeezenet_features(path: str, device: torch.device | str = "cpu") -> Features:
    """Features of SqueezeNet v1.0 with weights from an .npz. Raises InputError where the file is missing or broken."""
    if not path:
        raise InputError("needs the .npz of its weights (squeezenet)", "features", "squeezenet")
    net = squeezenet(path).to(device)
    if torch.device(device).type == "cpu":
        net = net.to(memory_format=torch.channels_last)
    names = (f"{name}_squeezenet" for name in ("frechet", "kernel_distance", "class_score"))
    return Features(f"squeezenet {_hash(path)}", partial(_apply_network, net, device), *names)


def inception_features(path: str = "", device: torch.device | str = "cpu") -> Features:
    """Features of Inception-v3 by torch-fidelity, with the network, resizing and weights of the original FID.

    Args:
        path: torch-fidelity's file of weights; empty: it is downloaded once.
        device: of the network.

    Raises:
        InputError: the file does not hold these weights, or the download fails.
    """
    if path:
        _check_weights(path)
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity  # here, because the import takes seconds

    try:
        net = fidelity.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], path or None).to(device)
    except OSError as e:  # URLError and broken connections are of this kind
        why = f"its weights cannot be downloaded ({_first_line(e)}): set inception_weights to a file from"
        raise InputError(f"{why} {fidelity.URL_INCEPTION_V3}", "features", "inception") from e
    except RuntimeError as e:
        why = f"it holds no Inception-v3 of torch-fidelity: {_first_line(e)}"
        raise InputError(why, "inception_weights", path or "the downloaded file") from e
    source = _hash(path) if path else Path(fidelity.URL_INCEPTION_V3).stem
    return Features(f"inception-v3 {source}", partial(_apply_to_bytes, net, device), "fid", "kid", "inception_score")


def coordinate_features() -> Features:
    """The data's own numbers."""
    return Features("coordinates", _flatten)


@torch.no_grad()
def _apply_classifier(net: Classifier, device: torch.device | str, x: Tensor) -> tuple[Tensor, Tensor]:
    features = net.features(x.to(device))
    return features.cpu(), net.head(features).cpu()


@torch.no_grad()
def _apply_network(net: nn.Module, device: torch.device | str, x: Tensor) -> tuple[Tensor, Tensor]:
    features, logits = net(x.to(device))
    return features.cpu(), logits.cpu()


def _apply_to_bytes(net: nn.Module, device: torch.device | str, x: Tensor) -> tuple[Tensor, Tensor]:
    """The images with three channels of uint8."""
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return _apply_network(net, device, pixels.expand(-1, 3, -1, -1))


def _flatten(x: Tensor) -> tuple[Tensor, None]:
    return x.flatten(1), None


def _check_weights(path: str) -> None:
    """Raise InputError unless a file holds a state dictionary; nothing in the file is executed."""
    try:
        content = torch.load(path, weights_only=True)
    except FileNotFoundError as e:
        raise InputError("there is no such file", "inception_weights", path) from e
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as e:
        raise InputError(f"not a file of weights: {_first_line(e)}", "inception_weights", path) from e
    if not isinstance(content, dict) or not all(isinstance(v, Tensor | nn.Parameter) for v in content.values()):
        raise InputError("not a file of weights: it holds other things", "inception_weights", path)


def _hash(path: str) -> str:
    return sha256(Path(path).read_bytes()).hexdigest()[:12]


def _first_line(e: Exception) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(e).__name__
