"""What a run has cost, and survived: measurements, and no part of what is computed."""

from dataclasses import dataclass


@dataclass
class Counters:
    """What a run has cost so far, over all its processes and attempts."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gradient_evaluations: int = 0
    staleness_waits: int = 0
    """Updates that waited for fresh chains."""
    tasks_resent: int = 0
    """Tasks that were sent once more because they were late."""
    results_lost: int = 0
    """Answers lost to an actor that is gone for good."""
    actor_restarts: int = 0


FAULTS = ("tasks_resent", "results_lost", "actor_restarts")
"""The fields that count what a run has survived."""
