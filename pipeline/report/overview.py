"""What was run, on what data, for how long, and what came of it, in plain words."""

import inspect
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.convergence.observer import read_rows
from pipeline.report.lineup import ReportedRun
from pipeline.report.markup import Markup, element, join, show_number, show_seconds
from pipeline.runs.record import RunRecord

HEADLINES = {
    "frechet": "Fréchet distance of its samples",
    "fid": "FID of its samples",
    "kl": "KL(truth, samples)",
    "grid_kl": "KL(truth, exp(-U/T))",
    "auprc": "AUPRC of detecting the held-out class",
    "accuracy": "accuracy on held-out items",
    "mse": "squared error of reconstructions, held-out items",
    "mse_train": "squared error of reconstructions, training items",
    "nll_nats_per_word": "negative log-likelihood in nats per word, held-out items",
    "nll_nats_per_word_train": "negative log-likelihood in nats per word, training items",
    "bits_per_dim": "bits per dimension, held-out items",
    "bits_per_dim_train": "bits per dimension, training items",
    "fppl": "perplexity of its samples under a language model of real sentences",
}
"""Metrics that a summary names, in this order."""
MOST_HEADLINES = 3
BESIDE = {
    "start": "of the states that chains start from",
    "floor": "of as many samples of the data's own distribution",
}
"""Metrics beside a distance, by the end of their names."""


def overview(runs: Sequence[ReportedRun]) -> Markup:
    """A card per run."""
    return element("div", *(_card(run) for run in runs), class_="cards")


def _card(run: ReportedRun) -> Markup:
    record = run.record
    head = element("h3", element("span", class_=f"dot {run.style}", aria_hidden="true"), run.label, " ", _badge(record))
    facts = [_what(run), _progress(record), *_result(record), _verdict(record)]
    place = element("p", element("code", record.folder), class_="place")
    return element("article", head, *(element("p", fact) for fact in facts), place)


def _badge(record: RunRecord) -> Markup:
    kind, word = (
        ("good", "finished") if record.result else ("bad", "diverged") if record.diverged else ("open", "not finished")
    )
    return element("span", word, class_=f"badge {kind}")


def _what(run: ReportedRun) -> Markup:
    job = run.record.job
    kind = type(job.recipe)
    paper = (inspect.getdoc(sys.modules[kind.__module__]) or "").partition("\n")[0].rstrip(".")
    parts: list[object] = [element("strong", kind.__name__), f" ({paper})" if paper else ""]
    parts += [" on ", element("strong", job.data.source), f", seed {job.seed}."]
    if run.preset is None:
        parts.append(" No preset has this recipe.")
    elif run.preset.name == job.name:
        parts += [" Preset ", element("code", run.preset.name), "."]
    else:
        parts += [" Its name is not that of a preset; the nearest one is ", element("code", run.preset.name), "."]
    return join(parts)


def _progress(record: RunRecord) -> Markup:
    job, counters = record.job, record.counters
    made, wanted = show_number(record.updates), show_number(job.updates)
    if record.result:
        parts: list[object] = ["Finished after ", made, " updates"]
    elif record.diverged:
        parts = ["Ended after ", made, " of ", wanted, f" updates: {record.diverged}"]
    elif record.updates:
        parts = ["At work, or interrupted, after ", made, " of ", wanted, " updates"]
        parts.append(f" (last line of metrics: {record.written})" if record.written else "")
    else:
        return join(["No update is logged yet, of ", wanted, "."])
    if counters:
        seconds = show_seconds(counters["wall_seconds"]), show_seconds(counters["cpu_seconds"])
        parts += [". It took ", seconds[0], " (", seconds[1], " of CPU time) and "]
        parts += [show_number(counters["gradient_evaluations"]), " gradient evaluations"]
        parts.append("" if record.result else " up to its newest checkpoint")
    return join([*parts, "."])


def _result(record: RunRecord) -> list[Markup]:
    """The main metrics of the final evaluation, or why there are none."""
    name, metrics = _newest_metrics(record)
    if not metrics and not record.result:
        return []
    if not metrics:
        return [element("span", "No final evaluation: the run was not asked for one, or its data have no such metric.")]
    where = f", by {name}" if name else ""
    sentences = [_headline(metrics, one, where) for one in HEADLINES if one in metrics][:MOST_HEADLINES]
    bad = sum(not math.isfinite(one["value"]) for one in metrics.values())
    if bad:
        sentences.append(element("span", f"{bad} of {len(metrics)} metrics are not finite{where}.", class_="bad"))
    return sentences or [element("span", f"{len(metrics)} metrics{where}, below.")]


def _newest_metrics(record: RunRecord) -> tuple[str, Mapping[str, Any]]:
    """Those of the final evaluation or else of the newest one, with the name of that one's folder."""
    later = [(name, one["metrics"]) for name, one in record.evaluations.items() if one["metrics"]]
    return ("", record.result["metrics"]) if record.result else later[-1] if later else ("", {})


def _headline(metrics: Mapping[str, Any], name: str, where: str) -> Markup:
    value = element("strong", show_number(metrics[name]["value"]))
    beside = [
        join([show_number(metrics[f"{name}_{end}"]["value"]), f" {words}"])
        for end, words in BESIDE.items()
        if f"{name}_{end}" in metrics
    ]
    words = HEADLINES[name]
    return join(
        [words[0].upper() + words[1:], where, ": ", value, *(["; ", join(beside, ", ")] if beside else []), "."]
    )


def _verdict(record: RunRecord) -> Markup:
    rows = verdicts(record)
    if not rows:
        return join(["No verdict on convergence: nobody observed the run."])
    last = rows[-1][1]
    return join(["Verdict on convergence: ", element("strong", last["verdict"]), f" (update {last['update']})."])


def verdicts(record: RunRecord) -> list[tuple[str, Mapping[str, Any]]]:
    """Who said what about convergence, in the order of updates: observers and evaluations."""
    rows = [("observer", row) for row in read_rows(record.place)]
    rows += [(name, one["convergence"]) for name, one in record.evaluations.items() if "convergence" in one]
    return sorted(rows, key=lambda item: int(item[1]["update"]))
