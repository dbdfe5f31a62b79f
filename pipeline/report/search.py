"""A search: its front of quality against cost, slices, best trials, and the confirmation with new seeds."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.chart import Line, chart, figure, legend
from pipeline.report.markup import Markup, element, join, short, show_number, show_seconds, show_setting, table
from pipeline.search.objectives import Objective
from pipeline.search.record import SearchRecord
from pipeline.search.summary import TrialOutcome, describe_best, mean_and_sd, pareto_front, rank_trials

BEST = 10
"""Trials in the table, at most."""
COMPLETE, EARLY, DIVERGED, FRONT = "c0 shade0", "c0 shade1", "c1 shade0", "front"


def search_section(search: SearchRecord) -> Markup:
    """All of a search."""
    parts = [element("article", *(element("p", fact) for fact in _summary(search)), class_="card")]
    if search.objective is None or not search.trials:
        return join([*parts, element("p", "No trial has reported yet.")])
    parts += [element("h3", "Front: quality against cost"), _front(search, search.objective)]
    parts += [element("h3", "Slices: quality against each setting"), _slices(search, search.objective)]
    parts += [element("h3", "Best trials"), _best_trials(search, search.objective)]
    parts += [element("h3", "Confirmation with new seeds"), _confirmation(search)]
    return join(parts)


def _summary(search: SearchRecord) -> list[Markup]:
    job, objective, trials, result = search.job, search.objective, search.trials, search.result
    data = job["data"]["source"]
    what = ["Settings of ", element("code", job["name"]), " on ", element("strong", data), " were searched"]
    if objective:
        better = "lower" if objective.direction == "min" else "higher"
        what += [" for ", element("strong", objective.name), f" ({better} is better): {objective.description}"]
    ended = {
        "complete": sum(t.complete and not t.diverged for t in trials),
        "stopped early": sum(not t.complete and not t.diverged for t in trials),
        "diverged": sum(t.diverged for t in trials),
    }
    counts = ", ".join(f"{count} {how}" for how, count in ended.items())
    evaluations = show_number(sum(t.cost for t in trials))
    spent = show_seconds(sum(float(t.reports[-1]["cpu_seconds"]) for t in trials))
    facts = [join([*what, "."])]
    if not result:
        facts.append(join([element("strong", "The search has not ended."), f" {len(trials)} of {search.args['trials']} "
                           f"trials have reported so far: {counts}, if none continues."]))  # fmt: skip
    else:
        budget = [f"{len(trials)} trials with a budget of ", show_number(result["budget"]), " gradient evaluations: "]
        facts.append(join([*budget, f"{counts}, {result['counts']['failed']:g} failed."]))
        if result["best"]:
            facts.append(
                join(
                    [
                        "Best: ",
                        element("strong", describe_best(result)),
                        ". Train it: ",
                        element("code", _command(search)),
                    ]
                )
            )
    return [*facts, join(["All trials took ", evaluations, " gradient evaluations and ", spent, " of CPU time."]),
            element("code", search.folder, class_="place")]  # fmt: skip


def _command(search: SearchRecord) -> str:
    """The command that trains the best settings."""
    experiment, folder = search.job["name"].partition("-")[0], search.folder.rstrip("/")
    return f"python -m jobs.{experiment} --preset-file {shlex.quote(f'{folder}/preset.py')}"


def _front(search: SearchRecord, objective: Objective) -> Markup:
    """Quality against gradient evaluations: of training at every report, and of a sample at the end."""
    points, lines = [], []
    for t in search.trials:
        x, y = ([r[key] for r in t.reports] for key in ("gradient_evaluations", "quality"))
        style = DIVERGED if t.diverged else COMPLETE if t.complete else EARLY
        lines.append(Line(f"trial {t.name}", x, y, f"{style} thin", "line" if len(x) > 1 else "points"))
        points += [(x, y) for x, y in zip(x, y, strict=True) if math.isfinite(y)]
    training = [*lines, _front_line(points, objective)]
    ends = [t for t in search.trials if not t.diverged]
    label = f"{objective.name} of all trials against gradient evaluations of training, with the Pareto front"
    charts = [figure(chart(training, label, "gradient evaluations of training"), objective.name, "at each report")]
    if search.result:
        complete = [(t.gradients_per_sample, t.quality) for t in ends if t.complete]
        sampling = [_points(some, lambda t: t.gradients_per_sample, style) for some, style in _by_end(search.trials)]
        label = f"{objective.name} at the end of each trial against gradient evaluations of a sample"
        picture = chart([*sampling, _front_line(complete, objective)], label, "gradient evaluations of a sample")
        charts.append(figure(picture, objective.name, "at the end of each trial, by the cost of a sample"))
    words = {COMPLETE: "complete", EARLY: "stopped early", DIVERGED: "diverged"}
    entries = [(style, words[style]) for some, style in _by_end(search.trials) if some]
    return join([legend([*entries, (FRONT, "Pareto front")]), element("div", *charts, class_="charts")])


def _front_line(points: Sequence[tuple[float, float]], objective: Objective) -> Line:
    chosen = [points[i] for i in pareto_front([x for x, _ in points], [y for _, y in points], objective)]
    return Line("Pareto front", [x for x, _ in chosen], [y for _, y in chosen], FRONT, "step")


def _by_end(trials: Sequence[TrialOutcome]) -> list[tuple[list[TrialOutcome], str]]:
    return [
        ([t for t in trials if t.complete and not t.diverged], COMPLETE),
        ([t for t in trials if not t.complete and not t.diverged], EARLY),
        ([t for t in trials if t.diverged], DIVERGED),
    ]


def _points(trials: Sequence[TrialOutcome], place: Any, style: str) -> Line:
    notes = [f"{t.name}: {short(t.quality)}" for t in trials]
    return Line("trial", [place(t) for t in trials], [t.quality for t in trials], style, "points", notes)


def _slices(search: SearchRecord, objective: Objective) -> Markup:
    """A chart per setting; words have the places 0, 1, ..."""
    charts = []
    for name in dict.fromkeys(name for t in search.trials for name in t.settings):
        trials = [t for t in search.trials if name in t.settings]
        words = sorted({str(t.settings[name]) for t in trials if not isinstance(t.settings[name], int | float)})

        def place(t: TrialOutcome, name: str = name, words: list[str] = words) -> float:
            value = t.settings[name]
            return words.index(str(value)) if words else float(value)

        lines = [_points(some, place, style) for some, style in _by_end(trials)]
        label = f"{objective.name} at the end of each trial against {name}"
        meaning = ", ".join(f"{i}: {word}" for i, word in enumerate(words))
        charts.append(figure(chart(lines, label, name), f"{objective.name} by {name}", meaning))
    return element("div", *charts, class_="charts")


def _best_trials(search: SearchRecord, objective: Objective) -> Markup:
    ranked = rank_trials(search.trials, objective)
    names = list(dict.fromkeys(name for t in ranked for name in t.settings))
    front = {one["name"] for one in search.result.get("front", [])}
    rows = [
        [
            t.name,
            show_number(t.quality),
            "complete" if t.complete else "stopped early",
            *(["yes" if t.name in front else "no"] if search.result else []),
            show_number(t.cost),
            *(_setting(t.settings.get(name)) for name in names),
        ]
        for t in ranked[:BEST]
    ]
    if not rows:
        return element("p", "All trials have diverged.", class_="bad")
    on_front = ["on the front"] if search.result else []
    head = ["trial", objective.name, "end", *on_front, "gradient evaluations", *names]
    more = [element("p", f"{len(ranked) - BEST} more did not diverge.", class_="note")] if len(ranked) > BEST else []
    return join([table(head, rows, "Best trials", "metrics"), *more])


def _confirmation(search: SearchRecord) -> Markup:
    if not search.result:
        return element("p", "It comes at the end of the search.")
    confirmed: Mapping[str, Any] = search.result["confirmed"]
    if not confirmed:
        return element("p", "The search ran none.")
    seeds = max(len(one["quality"]) for one in confirmed.values())
    first = int(search.args["seed"]) + 1
    rows = []
    for name, one in confirmed.items():
        values = [math.inf if value is None else value for value in one["quality"]]
        settings = ", ".join(f"{key} {_setting(value)}" for key, value in one["settings"].items())
        best = element("strong", f"{name} (best)") if name == search.result["best"] else name
        cells = ["no result" if value is None else show_number(value) for value in one["quality"]]
        rows.append([best, *cells, mean_and_sd(values), settings or "as the preset"])
    head = ["candidate", *(f"seed {first + i}" for i in range(seeds)), "mean ± sd", "settings"]
    note = (
        "Whole runs with new seeds, judged on items that no trial was judged by, unless the density is known: a best "
        "trial's own number flatters, since it is the best of many draws."
    )
    return join([table(head, rows, "Confirmation", "metrics"), element("p", note, class_="note")])


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else show_setting(value)
