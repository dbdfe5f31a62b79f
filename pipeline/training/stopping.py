"""How a run ends where it should stop: with a checkpoint of its last whole update."""

from collections.abc import Callable

from pipeline import stop
from pipeline.errors import Stopped
from pipeline.runs import checkpoint
from pipeline.training.collective import any_rank, world
from pipeline.training.worker import Worker


def stop_if_requested(worker: Worker, update: int, sync: Callable[[], None] = lambda: None) -> None:
    """Raise Stopped where the run should stop, with a checkpoint after `update` updates; on all ranks alike.

    Args:
        worker: of this rank.
        update: updates that it has made. After the last one nothing is raised, since the run has its last checkpoint.
        sync: makes durable what is logged.
    """
    if update == worker.job.updates:
        return
    reason = worker.requested() if worker.rank == 0 else ""
    if any_rank(bool(reason)):
        stop.accept()
        if not worker.is_due(update):
            sync()
            worker.save(update)
        raise Stopped(reason)


def save_interrupted(worker: Worker, sync: Callable[[], None]) -> None:
    """Where an update of this process alone was interrupted before it changed anything, save the one before it."""
    if not worker.whole or worker.pool.remote or world()[1] > 1:
        return
    if not checkpoint.is_whole(checkpoint.checkpoint_folder(worker.checkpoints, worker.whole)):
        sync()
        worker.save(worker.whole)
