"""What runs cost, and which faults they survived."""

from collections.abc import Callable, Sequence

from pipeline.report.differences import run_title
from pipeline.report.lineup import ReportedRun
from pipeline.report.markup import Markup, element, join, show_number, show_seconds, table
from pipeline.runs.record import FAULT_NAMES

COSTS: dict[str, Callable[[float], Markup]] = {
    "wall_seconds": show_seconds,
    "cpu_seconds": show_seconds,
    "gradient_evaluations": show_number,
    "staleness_waits": show_number,
}
WORDS = {
    "wall_seconds": "wall time",
    "cpu_seconds": "CPU time, all processes",
    "staleness_waits": "updates that waited for fresh chains",
    "tasks_resent": "late tasks, sent once more",
    "results_lost": "results lost with an actor",
    "actor_restarts": "restarts of actors",
    "learner_restarts": "restarts of learners",
}


def cost_section(runs: Sequence[ReportedRun]) -> Markup:
    """A table of costs and counts of faults, and the rollbacks with their reasons."""
    counters = {run.label: run.record.counters for run in runs}
    head = ["", *(map(run_title, runs) if len(runs) > 1 else ["this run"])]
    rows: list[list[object]] = [["updates", *(show_number(run.record.updates) for run in runs)]]
    for name in (*COSTS, *FAULT_NAMES):
        if name == "staleness_waits" and not any(run.record.job.lag for run in runs):
            continue
        show = COSTS.get(name, show_number)
        cells = [show(one[name]) if name in one else Markup("–") for one in counters.values()]
        rows.append([WORDS.get(name, name.replace("_", " ")), *cells])
    rows.append(["rollbacks", *(show_number(len(run.record.rollbacks)) for run in runs)])
    rows.append(["learners, actors", *(_processes(run) for run in runs)])
    parts = [table(head, rows, "Cost and faults", "costs")]
    if early := [run.label for run in runs if not run.record.result]:
        text = (
            f"Of {', '.join(early)}: as of the newest checkpoint." if len(runs) > 1 else "As of the newest checkpoint."
        )
        parts.append(element("p", text, class_="note"))
    parts += [_rollbacks(run, len(runs) > 1) for run in runs if run.record.rollbacks]
    parts += [
        element("p", f"{run.label if len(runs) > 1 else 'The run'} {run.record.diverged}", class_="bad")
        for run in runs
        if run.record.diverged
    ]
    return join(parts)


def _processes(run: ReportedRun) -> str:
    resources = run.record.job.resources
    learners = resources.learners
    words = f"{learners[0]} to {learners[1]}" if isinstance(learners, tuple) else f"{learners}"
    return f"{words}, {resources.actors}"


def _rollbacks(run: ReportedRun, named: bool) -> Markup:
    rows = [[show_number(one["update"]), show_number(one["resumed_at"]), one["reason"]] for one in run.record.rollbacks]
    head = ["diverged at update", "went on from", "why"]
    title = f"Rollbacks of {run.label}" if named else "Rollbacks"
    return join([element("h3", title), table(head, rows, title, "prose")])
