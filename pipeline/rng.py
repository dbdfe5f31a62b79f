"""Seeds derived from places: randomness is a function of where it is used, never a stored state."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Literal

import torch
from jaxtyping import Float
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


def parts_by_generator(
    x: Float[Tensor, "n *d"], rng: torch.Generator | Sequence[torch.Generator]
) -> list[tuple[Tensor, torch.Generator]]:
    """Views of the parts of x that generators fill: all of it one, or equal numbers of rows each of several.

    >>> x = torch.empty(4, 2)
    >>> [part.shape for part, _ in parts_by_generator(x, [generator(0), generator(1)])]
    [torch.Size([2, 2]), torch.Size([2, 2])]
    """
    if isinstance(rng, torch.Generator):
        return [(x, rng)]
    return list(zip(x.split(len(x) // len(rng)), rng, strict=True))


def standard_normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Independent draws of N(0, 1), on the generator's device."""
    return torch.empty(shape, device=rng.device).normal_(generator=rng)


def initial_noise(law: Literal["uniform", "gaussian"], shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Independent draws of U[-1, 1] or N(0, 1), on the generator's device."""
    if law == "gaussian":
        return standard_normal(shape, rng)
    return torch.empty(shape, device=rng.device).uniform_(-1, 1, generator=rng)
