"""Features: what samples and data are compared by. Only over those of Inception-v3 is a Fréchet distance an FID."""

import contextlib
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.evaluation.judges.classifier import Classifier, trained_classifier
from pipeline.nets.squeezenet import squeezenet

PIECE = 100
"""Items that a network takes at once: a piece's features depend on nothing else."""

FeatureKind: TypeAlias = Literal["classifier", "inception", "squeezenet", "coordinates"]
"""A small classifier of the data set itself; Inception-v3; SqueezeNet; the data's own numbers, as they are."""
MapFunction: TypeAlias = Callable[[Callable[[Tensor], Any], Iterable[Tensor]], Iterable[Any]]
"""`map`, or what spreads a function over processes."""


class FeatureBatch(NamedTuple):
    """What a network makes of n items."""

    features: Float[Tensor, "n f"]
    """float64."""
    logits: Float[Tensor, "n k"] | None
    """Unnormalised log-probabilities of classes, where the network knows classes."""


@dataclass(frozen=True)
class Features:
    """A way to look at data, and what the statistics over it are called."""

    name: str
    """With a hash of the weights, where they come from a file."""
    of: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """(n, *d) data on the CPU -> (n, f) features and (n, k) logits, on the CPU; it can be sent to other processes."""
    frechet: str = "frechet"
    kernel: str = "kernel_distance"
    score: str = "class_score"

    def __call__(self, x: Tensor, each: MapFunction = map) -> FeatureBatch:
        """Features of data (n, *d), piece by piece."""
        features, logits = zip(*each(self.of, x.split(PIECE)), strict=True)
        known = [part.double() for part in logits if part is not None]
        return FeatureBatch(torch.cat([part.double() for part in features]), torch.cat(known) if known else None)


def of_classifier(data: Dataset, device: torch.device | str = "cpu") -> Features:
    """Of the small classifier of the data set's own classes. Raises BadInput where there are none."""
    if data.spec.kind != "image" or not data.spec.num_classes:
        raise InputError("--features classifier: it takes images with labels to learn one")
    return Features(f"classifier of {data.fingerprint}", partial(_by_classifier, trained_classifier(data, device), device))


def of_squeezenet(path: str, device: torch.device | str = "cpu") -> Features:
    """Of SqueezeNet v1.0, whose weights are in an .npz. Raises BadInput where they are not."""
    net = squeezenet(path).to(device)
    if torch.device(device).type == "cpu":
        net = net.to(memory_format=torch.channels_last)

    names = (f"{name}_squeezenet" for name in ("frechet", "kernel_distance", "class_score"))
    return Features(f"squeezenet {_hash(path)}", partial(_by_network, net, device), *names)


def of_inception(path: str = "", device: torch.device | str = "cpu") -> Features:
    """Of Inception-v3, as torch-fidelity runs it: the network, the resizing and the weights of the original FID.

    Args:
        path: of torch-fidelity's file of weights; empty: it is downloaded, once.
        device: of the network.

    Raises:
        BadInput: the file is none, or the download fails.
    """
    if path:
        _check_weights(path)
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity  # here: it takes eight seconds

    try:
        net = fidelity.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], path or None).to(device)
    except OSError as e:  # URLError and what a broken connection gives are of this kind
        raise InputError(
            f"the weights of Inception-v3 cannot be downloaded ({_line(e)}): name their file by --inception-weights,"
            f" from {fidelity.URL_INCEPTION_V3}"
        ) from e
    except RuntimeError as e:
        what = f"--inception-weights {path} holds" if path else "what was downloaded holds"
        raise InputError(f"{what} no Inception-v3 of torch-fidelity: {_line(e)}") from e

    source = _hash(path) if path else Path(fidelity.URL_INCEPTION_V3).stem
    of = partial(_by_bytes, net, device)
    return Features(f"inception-v3 {source}", of, "fid", "kid", "inception_score")


def coordinates() -> Features:
    """The data's own numbers."""
    return Features("coordinates", _as_they_are)


def select_features(kind: FeatureKind, data: Dataset, inception: str, weights: str, device: torch.device) -> Features:
    """The features of a kind, for data; `inception` and `weights` (SqueezeNet's) are files, or empty.

    Raises:
        BadInput: they are not for such data, or a file is missing or broken.
    """
    if kind != "coordinates" and data.spec.kind != "image":
        raise InputError(f"--features {kind}: they are of images, and these data are none (kind {data.spec.kind})")
    if kind == "classifier":
        return of_classifier(data, device)
    if kind == "squeezenet":
        if not weights:
            raise InputError("--features squeezenet: name the file of its weights by --squeezenet PATH.npz")
        return of_squeezenet(weights, device)
    return of_inception(inception, device) if kind == "inception" else coordinates()


@torch.no_grad()
def _by_classifier(net: Classifier, device: torch.device | str, x: Tensor) -> tuple[Tensor, Tensor]:
    features = net.features(x.to(device))
    return features.cpu(), net.head(features).cpu()


@torch.no_grad()
def _by_network(net: nn.Module, device: torch.device | str, x: Tensor) -> tuple[Tensor, Tensor]:
    features, logits = net(x.to(device))
    return features.cpu(), logits.cpu()


def _by_bytes(net: nn.Module, device: torch.device | str, x: Tensor) -> tuple[Tensor, Tensor]:
    return _by_network(net, device, _bytes(x))


def _as_they_are(x: Tensor) -> tuple[Tensor, None]:
    return x.flatten(1), None


def _bytes(x: Float[Tensor, "n c h w"]) -> Tensor:
    """Three channels of uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)


def _check_weights(path: str) -> None:
    """Raise BadInput unless a file holds a state dictionary and nothing that runs when it is read."""
    try:
        found = torch.load(path, weights_only=True)
    except FileNotFoundError as e:
        raise InputError(f"--inception-weights {path}: there is no such file") from e
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as e:
        raise InputError(f"--inception-weights {path} is not a file of weights: {_line(e)}") from e
    if not isinstance(found, dict) or not all(isinstance(value, Tensor | nn.Parameter) for value in found.values()):
        raise InputError(f"--inception-weights {path} is not a file of weights: it holds other things")


def _hash(path: str) -> str:
    with contextlib.closing(Path(path).open("rb")) as file:
        return sha256(file.read()).hexdigest()[:12]


def _line(e: Exception) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(e).__name__
