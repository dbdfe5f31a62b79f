"""What follows a divergence: the next attempt, from the last healthy checkpoint."""

import sys

from pipeline.errors import Diverged
from pipeline.runs import checkpoint
from pipeline.runs.journal import METRICS_FILE
from pipeline.runs.storage import Storage
from pipeline.training.divergence import Rollback
from pipeline.training.result import record_divergence
from pipeline.training.worker import Worker


def next_attempt(worker: Worker, fault: Diverged) -> tuple[Worker, int]:
    """The worker to continue with after a divergence, and the number of updates it has made.

    Raises:
        Diverged: the fault, where the job does not roll back, or no more; result.json says so.
    """
    settings, attempt = worker.job.divergence, worker.learner.attempt
    if settings.on_divergence == "stop" or len(worker.rollbacks) >= settings.rollbacks:
        record_divergence(worker, fault)
        raise fault
    again, update = roll_back(worker, fault)
    if again.rank == 0:
        out = Storage.at(again.job.out)
        out.write(f"metrics-attempt-{attempt}.jsonl", out.read(METRICS_FILE))
        print(f"{fault}; continuing from update {update}, attempt {attempt + 1}", file=sys.stderr)
    return again, update


def roll_back(worker: Worker, fault: Diverged) -> tuple[Worker, int]:
    """A worker for the next attempt, at the last healthy checkpoint; the one that diverged is discarded.

    A checkpoint is healthy if it was when it was written, and if no metric was on its way to where it diverged, as its
    course since then shows. If the run diverged from that checkpoint before, the next attempt starts one further back,
    as long as there is one, or at the start if that checkpoint is older than the history it would be judged by. Results
    in flight are dropped: they belong to the data and random numbers of the attempt that failed.

    Returns:
        The worker to continue with, and the number of updates it has made.
    """
    counters = worker.accounting.total()
    if worker.rank == 0:
        worker.check_lease()
        last = worker.rollbacks[-1].resumed_at if worker.rollbacks else None
        healthy_until = fault.update - worker.monitor.updates_on_the_way()
        checkpoint.remove_unhealthy(worker.checkpoints, last, healthy_until)
    del worker.learner, worker.banks  # the next attempt needs their memory
    again = Worker(
        worker.job, worker.data, worker.device, worker.pool, worker.lease, worker.restart_count, worker.requested
    )
    worker.pool.reset()
    update = again.restore(in_flight=False)
    again.set_rollbacks([*worker.rollbacks, Rollback(fault.update, update, str(fault))])
    again.accounting.before, again.accounting.offset = counters, again.accounting.current_faults()
    return again, update
