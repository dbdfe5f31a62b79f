"""Samples along a run, and figures: embedded pictures, a bounded number of them and of a bounded size."""

import base64
import io
from collections.abc import Sequence
from typing import TypeVar

from pipeline.report.chart import figure
from pipeline.report.lineup import ReportedRun
from pipeline.report.markup import Markup, element, fold, join
from pipeline.runs.record import RunRecord

T = TypeVar("T")

PICTURES = 32
"""Pictures of a page, about."""
MOST_GRIDS = 6
"""Grids of samples per run, at most."""
MOST_BYTES = 150_000
"""A picture above this size is made smaller."""
SENTENCES = 8
"""Of each file of sentences."""


def pictures_section(runs: Sequence[ReportedRun]) -> Markup:
    """Samples along each run, and its figures."""
    share = max(3, PICTURES // len(runs))
    return join([_of_run(run, share, len(runs) > 1) for run in runs])


def _of_run(run: ReportedRun, share: int, named: bool) -> Markup:
    record = run.record
    names = sorted(record.pictures.get("samples", []), key=_order)
    grids, texts = ([name for name in names if name.endswith(end)] for end in (".png", ".txt"))
    drawn = [name for name in record.pictures.get("figures", []) if name.endswith(".png")]
    if "classes.png" in drawn:  # the same samples, with the names of their classes
        grids = [name for name in grids if name != "classes.png"]
    chosen = spread(grids, min(MOST_GRIDS, share))
    figures = [("figures", name) for name in drawn]
    figures += [(folder, name) for folder in record.evaluations for name in _png(record, folder)]
    figures += [("observe", name) for name in _newest_sheets(record)]
    parts = [element("h3", run.label)] if named else []
    if chosen:
        pictures = [_picture(record, "samples", name, run.label) for name in chosen]
        parts.append(element("div", *pictures, class_="grids"))
    if texts:
        parts.append(element("div", *(_sentences(record, name) for name in spread(texts, 4)), class_="texts"))
    if not grids and not texts:
        parts.append(element("p", "No samples along the run: only runs on images and texts write them."))
    shown = figures[: max(0, share - len(chosen))]
    if shown:
        plots = element("div", *(_picture(record, *one, run.label) for one in shown), class_="plots")
        parts.append(fold("Figures", plots) if named and grids else plots)
    if left := len(figures) - len(shown):
        parts.append(element("p", f"{left} more figures lie in the run folder.", class_="note"))
    return join(parts)


def _order(name: str) -> tuple[bool, str]:
    """Along the run first, then those of its end."""
    return not name.startswith("update-"), name


def spread(items: Sequence[T], n: int) -> list[T]:
    """At most n items: the first, the last, and others evenly between.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if len(items) <= n:
        return list(items)
    return [items[round(i * (len(items) - 1) / (n - 1))] for i in range(n)] if n > 1 else [items[-1]]


def _png(record: RunRecord, folder: str) -> list[str]:
    return [name for name in record.pictures.get(folder, []) if name.endswith(".png")]


def _newest_sheets(record: RunRecord) -> list[str]:
    """The observer's newest pictures of long chains."""
    return [name for name in _png(record, "observe") if name.startswith("sheet")][-1:]


def _picture(record: RunRecord, folder: str, name: str, label: str) -> Markup:
    title = _title(name)
    if folder in record.evaluations:
        title = f"{folder}: {title}"
    alt = f"{'Samples' if folder == 'samples' else 'Figure'} of {label}: {title}"
    image = element("img", src=data_uri((record.place / folder).read(name)), alt=alt)
    return figure(image, title)


def _title(name: str) -> str:
    stem = name.rpartition(".")[0]
    word, _, number = stem.rpartition("-")
    if word == "update" and number.isdigit():
        return f"update {int(number):,}"
    return f"long chains at update {int(number):,}" if word == "sheet" else stem.replace("_", " ")


def _sentences(record: RunRecord, name: str) -> Markup:
    lines = (record.place / "samples").read(name).decode("utf-8", "replace").splitlines()[:SENTENCES]
    return figure(element("ul", *(element("li", line) for line in lines)), _title(name))


def data_uri(png: bytes) -> str:
    """A PNG as the address of itself, made smaller if it is large."""
    from PIL import Image  # slow to import

    for width in (1000, 640, 400, 300):
        if len(png) <= MOST_BYTES:
            break
        with Image.open(io.BytesIO(png)) as image:
            if image.width > width:
                small, file = image.convert("RGB"), io.BytesIO()
                small.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS).save(
                    file, "PNG", optimize=True
                )
                png = file.getvalue()
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
