"""Seeds derived from places: randomness is a function of where it is used, never a stored state."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Literal

import torch
from torch import Tensor


def fold(seed: int, *path: int | str) -> int:
    """Derive a seed in [0, 2^63) from a run's seed and the path of the place that uses it.

    Different paths give independent seeds; the same path gives the same seed on every machine.

    >>> fold(0, "chain", 1) == fold(0, "chain", 1) != fold(0, "chain", 2)
    True
    """
    digest = blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator on `device` with this seed."""
    return torch.Generator(device=device).manual_seed(seed)


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore their states after it."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        if cuda:
            torch.manual_seed(seed)
        else:  # torch.manual_seed would also write down a traceback for each device there may be, which takes 3 ms
            torch.default_generator.manual_seed(seed)
        yield


def standard_normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Independent draws of N(0, 1), on the generator's device."""
    return torch.empty(shape, device=rng.device).normal_(generator=rng)


def initial_noise(law: Literal["uniform", "gaussian"], shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Independent draws of U[-1, 1] or N(0, 1), on the generator's device."""
    if law == "gaussian":
        return standard_normal(shape, rng)
    return torch.empty(shape, device=rng.device).uniform_(-1, 1, generator=rng)
