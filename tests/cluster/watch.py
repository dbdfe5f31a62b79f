"""How many machines a Ray cluster has, said by one process on one of its hosts; starting one for each look is slow."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SAYS = """
import time, ray
while True:
    try:
        ray.init(logging_level="error", log_to_driver=False, ignore_reinit_error=True)
        print(sum(node["Alive"] for node in ray.nodes()), flush=True)
    except (OSError, RuntimeError, ray.exceptions.RayError):
        print(0, flush=True)
    time.sleep(1)
"""


class Watch:
    """The numbers of machines that the head of a cluster has said."""

    def __init__(self, said: Path):
        self.said = said

    def numbers(self) -> list[int]:
        """All of them, once a second; 0 where Ray did not answer."""
        return [int(line) for line in self.said.read_text().splitlines() if line.isdigit()]  # Ray may print, too

    def wait_for(self, count: int, seconds: float) -> float:
        """The seconds until the newest number is `count`."""
        began = time.monotonic()
        while self.numbers()[-1:] != [count]:
            assert time.monotonic() - began < seconds, f"{self.numbers()[-5:]}, not {count}"
            time.sleep(0.5)
        return time.monotonic() - began


@contextmanager
def watch(head, said: Path) -> Iterator[Watch]:
    """Look at the cluster of a host of `hosts`, whether it is up or not yet."""
    with said.open("w") as file:
        words = ["env", f"RAY_ADDRESS={head.address}:6379", sys.executable, "-c", SAYS]
        with head.popen(words, stdout=file, stderr=subprocess.DEVNULL) as process:
            try:
                yield Watch(said)
            finally:
                process.kill()
