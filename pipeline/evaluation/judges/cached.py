"""Networks of evaluation, trained once per data set with a fixed seed and then taken from the cache folder."""

import contextlib
import sys
from collections.abc import Callable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.data.cache import cache_folder
from pipeline.data.dataset import Dataset


def load_or_train(kind: str, data: Dataset, net: nn.Module, train: Callable[[], object]) -> None:
    """Load a network's weights from the cache, or train it and save them; safe when several processes do so at once.

    Args:
        kind: folder in the cache.
        data: what the network is trained on.
        net: the network, untrained; it is changed in place.
        train: trains it in place.
    """
    path = cache_folder() / kind / f"{data.fingerprint}-{data.size}.safetensors"
    if path.exists():
        try:
            net.load_state_dict(load_file(path))
            return
        except (SafetensorError, OSError, RuntimeError):
            print(f"{path} is damaged: the network is trained again", file=sys.stderr)
    train()
    part = path.with_suffix(f".{torch.randint(2**31, (1,)).item()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous().cpu() for k, v in net.state_dict().items()}, part)
        part.replace(path)
    except (SafetensorError, OSError) as e:  # the next command trains it again
        print(f"{path} cannot be written ({str(e).splitlines()[0]}): the network is not cached", file=sys.stderr)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
