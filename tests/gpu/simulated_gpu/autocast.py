"""Autocast on the simulated GPU: which operators it has in bfloat16 and which in float32, as torch has them for CUDA.

Casts are operators and are counted. Those of weights that learn torch makes once for each forward pass; here they are
made at each call, as for weights that do not learn.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from simulated_gpu.tensor import BACKEND, GPU

KEY = "AutocastPrivateUse1"
aten = torch.ops.aten
PRODUCTS = (
    *(aten.linear.default, aten.matmul.default, aten.mm.default, aten.addmm.default, aten.mv.default),
    *(aten.bmm.default, aten.baddbmm.default, aten.conv2d.default, aten.conv_transpose2d.input),
    *(aten.convolution.default, aten._thnn_fused_gru_cell.default),
)
"""In bfloat16."""
SUMS = (
    *(aten.exp.default, aten.log.default, aten.sum.default, aten.sum.dim_IntList, aten.cumsum.default),
    *(aten.softmax.int, aten.log_softmax.int, aten.logsumexp.default, aten.pow.Tensor_Scalar),
    *(aten.reciprocal.default, aten.linalg_vector_norm.default, aten.nll_loss.default),
)
"""In float32."""


@cache
def register() -> tuple[torch.library.Library, ...]:
    """Tell torch the rules of the device; the others stay as they are."""
    others, own = torch.library.Library("_", "IMPL", KEY), torch.library.Library("aten", "IMPL", KEY)
    others.fallback(torch.library.fallthrough_kernel)
    for operators, dtype in ((PRODUCTS, torch.bfloat16), (SUMS, torch.float32)):
        for operator in operators:
            own.impl(operator, _at(dtype, operator))
    return others, own


def _at(dtype: torch.dtype, operator: Any) -> Callable[..., Any]:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(value: Any) -> Any:
        is_other = isinstance(value, Tensor) and value.dtype in (torch.float32, torch.bfloat16) and value.dtype != dtype
        return value.to(dtype) if is_other else value

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return call


def set_enabled(function: Callable[[str, bool], None]) -> Callable[[str, bool], None]:
    """What stands for `torch.set_autocast_enabled`: what is set for CUDA is set for the device that stands for it."""

    def enable(device_type: str, enabled: bool) -> None:
        function(device_type, enabled)
        if device_type == GPU.type:
            function(BACKEND, enabled)

    return enable
