"""A GPU that is none: its tensors live in CPU memory, hold real numbers, and say that they are on cuda:0.

A program runs on it as on a GPU, so that a machine without one can tell

- what a GPU would refuse: operators over tensors of both devices, generators of the other device, numpy of a tensor on
  the device;
- what the host would wait for, with the line of the project that asks for it: single numbers that it reads, shapes that
  depend on numbers, copies either way;
- the work that is done: the number of operators, those in float64, which a GPU is slow at, and products that torch
  would let it round to TF32.

Its generators draw the numbers of a CPU's, so a run on it is compared with a run on the CPU number by number.

What only a real GPU can tell: whether its memory suffices; how fast anything is; its own noise, and sums in another
order; TF32, bfloat16 units, and which algorithms cuDNN has, allows and repeats; NCCL; streams, so that a copy that does
not wait and is read too early goes unnoticed; pinned memory beyond the promise that copies from it need not wait;
CUDA graphs and `torch.compile`. GPUs take the address of a tensor's memory; here there is none, so a library that does
so from C++ is not simulated. An index on the host to a tensor on the device is moved there by Python's brackets, as
torch does; where C++ code makes such an index, the process aborts.

torch learns of the device once, for good: use it in a process of its own.
"""

from simulated_gpu.context import simulate_in_workers, simulated_gpu
from simulated_gpu.record import Event, Record

__all__ = ["Event", "Record", "simulate_in_workers", "simulated_gpu"]
