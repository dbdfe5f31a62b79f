"""Counters: what a run has cost, and which faults it has survived. They are logged and never used in a computation."""

from dataclasses import dataclass


@dataclass
class Counters:
    """Cost and faults of a run, over all its processes and attempts."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gradient_evaluations: int = 0
    staleness_waits: int = 0
    """Updates that waited for fresh chains."""
    tasks_resent: int = 0
    """Tasks that were sent once more because they were late."""
    results_lost: int = 0
    """Results lost with an actor that is gone for good."""
    actor_restarts: int = 0


FAULTS = ("tasks_resent", "results_lost", "actor_restarts")
"""The fields that count faults."""
