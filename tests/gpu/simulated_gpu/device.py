"""What happens to an operator: it is refused, or noted and computed on the CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from simulated_gpu import gru
from simulated_gpu.call import RESIZING, Call
from simulated_gpu.costs import note
from simulated_gpu.record import Record
from simulated_gpu.tensor import GpuTensor, is_gpu

OWN = {"_thnn_fused_gru_cell": gru.cell, "_thnn_fused_gru_cell_backward": gru.cell_backward}
"""Operators that GPUs have and CPUs lack."""
PINNED_MEMORY = {"is_pinned", "_pin_memory", "pin_memory"}

records: list[Record] = []
"""Those that are open; the last one counts."""


class Device(TorchDispatchMode):
    """Sees the operators that no tensor on the device takes part in: those that make tensors, and copies to it."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operator, args, kwargs or {})


def run(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operator on either device. Raises RuntimeError where torch would refuse it."""
    call = Call.of(operator, args, kwargs)
    if call.name in PINNED_MEMORY or kwargs.get("pin_memory"):
        return _with_pinned_memory(call)
    if call.generator is None and not call.on_gpu and not call.names_gpu:
        return operator(*args, **kwargs)
    if why := call.why_refused():
        records[-1].refuse(why)
    if not call.on_gpu and not call.names_gpu:
        return operator(*args, **kwargs)
    if call.name in RESIZING:
        raise NotImplementedError(f"the simulated GPU has no {call}")
    note(call, records[-1])
    values = {name: _memory(value) for name, value in kwargs.items()}
    result = OWN.get(call.name, operator)(*map(_memory, args), **values)
    if torch.Tag.inplace_view in operator.tags:  # the wrapper has a shape of its own
        with no_dispatch():
            operator(*args, **kwargs)
    return _on_device(call, result) if call.is_on_gpu or call.name == "copy_" else result


def _memory(value: Any) -> Any:
    """A value with the memory of the tensors in it."""
    if isinstance(value, GpuTensor):
        return value.memory
    if isinstance(value, (list, tuple)):
        return type(value)(map(_memory, value))
    return torch.device("cpu") if is_gpu(value) else value


def _on_device(call: Call, result: Any) -> Any:
    """The result with its tensors on the device; what was changed in place is the same tensor as before."""
    if isinstance(result, Tensor):
        return _wrap(call, result)
    if isinstance(result, (list, tuple)):
        return type(result)(_wrap(call, one) if isinstance(one, Tensor) else one for one in result)
    return result


def _wrap(call: Call, result: Tensor) -> Tensor:
    for tensor in call.on_gpu:
        if tensor.memory is result:
            return tensor
    return result if any(result is tensor for tensor in call.on_host) else GpuTensor(result)


def _with_pinned_memory(call: Call) -> Any:
    """Pinned memory is memory of the host that the record knows."""
    record = records[-1]
    if call.name == "is_pinned":
        return record.is_pinned(call.args[0])
    kwargs = {**call.kwargs, "pin_memory": False}
    tensor = call.args[0].clone() if call.name in PINNED_MEMORY else call.operator(*call.args, **kwargs)
    record.pin(tensor)
    return tensor
