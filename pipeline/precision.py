"""The precision of matrix products and convolutions, which a run has as a setting.

GPUs round the factors of both to TF32, with 10 bits, where they may, and torch allows it for convolutions by default.
An error of 1e-3 in an energy, at a temperature of 5e-5, is 20 nats: samplers that accept or reject, annealing and
evaluation would be wrong. So a process rounds nothing (`pipeline.process`), but for the work that a run does at its own
precision.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["highest", "tf32", "bf16"]
"""float32; TF32 on a GPU that has it; and networks of chains in bfloat16 besides."""


@contextmanager
def at_precision(precision: Precision, device: torch.device | str) -> Iterator[None]:
    """Compute at a precision inside the block; bfloat16 wherever torch's autocast allows it on the device.

    >>> with at_precision("bf16", "cpu"):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.bfloat16
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    allow_tf32(precision != "highest")
    try:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def allow_tf32(allowed: bool) -> None:
    """Whether matrix products and convolutions of this process may round their factors to TF32, on a GPU that can."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def without_bfloat16(precision: Precision) -> Precision:
    """The precision of work that gradients of weights or a choice between settings depend on."""
    return "highest" if precision == "highest" else "tf32"
