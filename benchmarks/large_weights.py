"""Time and memory of 100 million weights on their way from a learner to an actor: flatten, put, fetch and load.

Each step runs in the process that does it in a run: the learner flattens its networks and puts the array, an actor
fetches and loads it. Seconds are CPU seconds of that process, the least of three versions; memory is the growth of its
peak during the step, in sizes of the weights (400 MB), over what it had before. `--numbers` takes fewer.
"""

import argparse
import time

import torch
from torch import nn

CHANNELS, VERSIONS = 1666, 3


def networks(numbers: int) -> dict[str, nn.Module]:
    """Convolutions of 3 x 3 in the memory layout of a ConvNet here, with about so many weights in all."""
    layers, rest = divmod(numbers, 9 * CHANNELS**2)
    channels = [CHANNELS] * layers + [int((rest / 9) ** 0.5)] * (rest >= 9)
    net = nn.Sequential(*(nn.Conv2d(one, one, 3, bias=False) for one in channels))
    return {"energy": net.to(memory_format=torch.channels_last)}


def status(name: str) -> int:
    """Bytes that the kernel gives for this process."""
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(name)).split()[1]) * 1024


class Meter:
    """CPU seconds, and growth of the peak of this process's own memory, within a block."""

    def __enter__(self):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        self.before, self.began = status("VmRSS"), time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds, self.grew = time.process_time() - self.began, status("VmHWM") - self.before


def actor_class():
    class Loading:
        """An actor's networks, and the two steps in which it takes weights."""

        def __init__(self, numbers):
            from benchmarks.large_weights import Meter, networks
            from pipeline.nets.weights import without_gradients

            with Meter() as made:
                self.nets = without_gradients(networks(numbers))
            self.made = made

        def take(self, weights):
            import ray

            from benchmarks.large_weights import Meter
            from pipeline.nets.bfloat16 import unpack
            from pipeline.nets.weights import load

            with Meter() as fetch:
                array = ray.get(weights[0])
            with Meter() as loaded:
                load(self.nets, unpack(array))
            return {"fetch": (fetch.seconds, fetch.grew), "load": (loaded.seconds, loaded.grew)}

        def start(self):
            return self.made.seconds, self.made.grew

    return Loading


def measured(numbers: int, dtype: str) -> dict[str, tuple[float, int]]:
    import ray

    from pipeline.nets.bfloat16 import pack
    from pipeline.nets.weights import flatten

    torch.set_num_threads(1)
    actor = ray.remote(num_cpus=0.1)(actor_class()).remote(numbers)
    found = {"actor: its networks": [ray.get(actor.start.remote())]}
    nets = networks(numbers)
    for _ in range(VERSIONS):
        with Meter() as flat_meter:
            flat = flatten(nets)
        with Meter() as pack_meter:
            sent = pack(flat) if dtype == "bfloat16" else flat
        with Meter() as put_meter:
            ref = ray.put(sent)
        for name, meter in (("flatten", flat_meter), ("pack", pack_meter), ("put", put_meter)):
            found.setdefault(f"learner: {name}", []).append((meter.seconds, meter.grew))
        for name, one in ray.get(actor.take.remote([ref])).items():
            found.setdefault(f"actor: {name}", []).append(one)
        del flat, sent, ref
    ray.kill(actor)
    return {name: (min(s for s, _ in ones), max(grew for _, grew in ones)) for name, ones in found.items()}


def main() -> None:
    import ray

    import pipeline.distributed  # noqa: F401  # before Ray, for its settings

    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_weights", description=__doc__)
    parser.add_argument("--numbers", type=int, default=100_000_000)
    numbers = parser.parse_args().numbers
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=int(9 * numbers + 2e8),
             logging_level="error", log_to_driver=False)  # fmt: skip
    print("| step | float32: CPU s | memory | bfloat16: CPU s | memory |\n|---|---|---|---|---|")
    sides = [measured(numbers, dtype) for dtype in ("float32", "bfloat16")]
    for name in sides[0]:
        cells = [f"{side[name][0]:.2f} | {side[name][1] / (4 * numbers):.2f}" for side in sides]
        print(f"| {name} | {' | '.join(cells)} |")
    ray.shutdown()


if __name__ == "__main__":
    main()
