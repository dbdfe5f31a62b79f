"""What a call costs a program on a GPU: whether the host waits for it, and whether it is work for the device."""

import torch

from simulated_gpu.call import COPIES, INDEXING, Call
from simulated_gpu.record import Record
from simulated_gpu.tensor import GpuTensor

READS = {"_local_scalar_dense", "equal", "is_nonzero", "_linalg_check_errors"}
"""Operators that hand numbers to the host."""
SHAPES = {
    *("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "repeat_interleave"),
    *("_linalg_eigh", "_linalg_svd", "_linalg_solve_ex", "linalg_eig", "linalg_lstsq"),
}
"""Operators whose result's shape depends on numbers, and decompositions, which check their success on the host."""
VIEWS = {
    *("_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "diagonal", "expand", "lift_fresh"),
    *("movedim", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind"),
    *("unfold", "unsqueeze", "view", "view_as", "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty"),
    *("new_empty_strided", "is_pinned", "is_same_size", "sym_size", "sym_stride"),
}
"""Operators that look at shapes alone, or take memory: no work for the device."""
CONVOLUTIONS = {"convolution", "convolution_backward"}
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "dot"}
"""Operators whose float32 factors a GPU rounds to TF32, where torch is set to allow it."""
DOUBLE = (torch.float64, torch.complex128)


def note(call: Call, record: Record) -> None:
    """Count what a call on the device costs."""
    if kind := _wait(call, record):
        record.add(kind, str(call))
    if call.name in VIEWS or kind in ("to host", "to device") or _crosses(call):
        return
    record.operators[str(call)] += 1
    if any(tensor.dtype in DOUBLE for tensor in call.on_gpu):
        record.add("float64", str(call))
    if _is_rounded(call):
        record.add("tf32", str(call))


def _is_rounded(call: Call) -> bool:
    """Whether a GPU rounds the factors of a product to TF32."""
    if call.name in CONVOLUTIONS:
        allowed = torch.backends.cudnn.allow_tf32
    else:
        allowed = call.name in PRODUCTS and torch.get_float32_matmul_precision() != "highest"
    return allowed and call.on_gpu[0].dtype == torch.float32


def _wait(call: Call, record: Record) -> str:
    """The kind of the wait; empty where the host goes on."""
    if call.name in COPIES:
        return _copy(call, record)
    if call.name in READS:
        return "read"
    if call.name in SHAPES or (call.name == "multinomial" and _checks_weights(call)):
        return "shape"
    if call.name in INDEXING:
        indices = [tensor for tensor in call.args[1] if tensor is not None]
        if any(tensor.dtype in (torch.bool, torch.uint8) for tensor in indices):
            return "shape"
        return "to device" if any(not isinstance(tensor, GpuTensor) for tensor in indices) else ""
    return ""


def _crosses(call: Call) -> bool:
    """Whether it copies between host and device, but for a number, which travels with the call."""
    if call.name not in COPIES:
        return False
    source, to_gpu = call.args[call.name == "copy_"], _is_to_gpu(call)
    is_number = call.name == "copy_" and to_gpu and not source.dim()
    return to_gpu != isinstance(source, GpuTensor) and not is_number


def _is_to_gpu(call: Call) -> bool:
    return isinstance(call.args[0], GpuTensor) if call.name == "copy_" else call.is_on_gpu


def _copy(call: Call, record: Record) -> str:
    """Copies between host and device, but for those that pinned memory allows to come later."""
    to_gpu = _is_to_gpu(call)
    if call.name == "copy_":
        target, source, *more = call.args
        non_blocking = call.kwargs.get("non_blocking", any(more))
        may_come_later = non_blocking and record.is_pinned(source if to_gpu else target)
    else:  # to the host, torch makes the memory itself
        non_blocking = call.kwargs.get("non_blocking")
        may_come_later = non_blocking and (not to_gpu or record.is_pinned(call.args[0]))
    return "" if not _crosses(call) or may_come_later else "to device" if to_gpu else "to host"


def _checks_weights(call: Call) -> bool:
    """Whether `multinomial` reads its weights on the host: without replacement, or a single draw."""
    return len(call.args) < 3 or not call.args[2] or call.args[1] == 1
