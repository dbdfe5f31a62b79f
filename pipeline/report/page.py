"""The page: runs side by side, then searches, in one HTML file that loads nothing."""

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from pipeline.report.convergence import convergence_section
from pipeline.report.cost import cost_section
from pipeline.report.curves import curves_section
from pipeline.report.differences import settings_section
from pipeline.report.lineup import ReportedRun, line_up
from pipeline.report.markup import Markup, element
from pipeline.report.metrics import metrics_section
from pipeline.report.overview import overview
from pipeline.report.pictures import pictures_section
from pipeline.report.search import search_section
from pipeline.runs.job import Job
from pipeline.runs.record import RunRecord
from pipeline.search.record import SearchRecord

SECTIONS: dict[str, Callable[[Sequence[ReportedRun]], Markup]] = {
    "Summary": overview,
    "Settings": settings_section,
    "Curves": curves_section,
    "Samples": pictures_section,
    "Convergence": convergence_section,
    "Metrics": metrics_section,
    "Cost and faults": cost_section,
}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load for the page: nothing but what is in it."""


def page(
    records: Sequence[RunRecord],
    presets: Sequence[Job[Any] | None],
    searches: Sequence[SearchRecord],
    written: str,
) -> str:
    """Runs and searches as one HTML page.

    Args:
        records: the runs.
        presets: that each run began as, or the nearest one; None: there is none.
        searches: shown after the runs.
        written: when, and by what.
    """
    runs = line_up(records, presets)
    sections = [(title, section(runs)) for title, section in SECTIONS.items()] if runs else []
    sections += [(_search_title(search), search_section(search)) for search in searches]
    names = [run.label for run in runs] + [_search_title(search) for search in searches]
    title = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    links = [element("a", name, href=f"#section-{i}") for i, (name, _) in enumerate(sections)]
    nav = element("nav", *links, aria_label="Sections") if len(sections) > 1 else ""
    body = [
        element("section", element("h2", name, id=f"section-{i}"), content, aria_labelledby=f"section-{i}")
        for i, (name, content) in enumerate(sections)
    ]
    header = element("header", element("h1", title), nav)
    return "<!DOCTYPE html>\n" + element(
        "html",
        _head(title),
        element("body", header, element("main", *body), element("footer", written)),
        lang="en",
    )


def _search_title(search: SearchRecord) -> str:
    return f"Search of {search.job['name']} ({search.place.name})"


def _head(title: str) -> Markup:
    style = resources.files(__package__ or "").joinpath("style.css").read_text("utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"Report: {title}"),
        element("style", Markup(style)),
    )
