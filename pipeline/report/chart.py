"""Charts as inline SVG: colours come from the page's style, so that they suit light and dark."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy import ndarray

from pipeline.report.markup import Markup, element, join, short

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 330, 10, 158
"""The frame of the data, in the units of WIDTH and HEIGHT."""
PAD = 0.04
"""Room beside the data, as a share of their range."""
BINS = 150
"""Parts of a long curve; each keeps its least and its greatest value."""
LOG_RATIO = 10.0
"""Ratio of the greatest to the least positive value above which an axis is logarithmic."""


class Line(NamedTuple):
    """A curve, or points."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: str
    """Class of its colour in the style sheet."""
    kind: Literal["line", "step", "points"] = "line"
    notes: Sequence[str] = ()
    """What each point says when it is pointed at."""


class Axis(NamedTuple):
    """The range of an axis."""

    least: float
    most: float
    log: bool

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the least, 1 at the most."""
        least, most, value = map(math.log, (self.least, self.most, value)) if self.log else (*self[:2], value)
        return (value - least) / (most - least)

    def ticks(self) -> list[float]:
        """A few round values within the range."""
        from matplotlib.ticker import LogLocator, MaxNLocator  # slow to import

        subs = (1.0,) if self.log and self.most / self.least > 1000 else (1.0, 3.0)
        locator = LogLocator(subs=subs, numticks=6) if self.log else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        ticks = [float(tick) for tick in locator.tick_values(self.least, self.most)]
        return [tick for tick in ticks if -1e-9 <= self.share(tick) <= 1 + 1e-9] if ticks else []


def thin(y: ndarray, bins: int = BINS) -> ndarray:
    """Indices of the points of a curve that are drawn: of each bin the least, the greatest and one not finite.

    Args:
        y: (n,) values.
        bins: parts of equal length.

    Returns:
        (k,) rising indices, all of them where there are no more than three per bin.
    """
    if len(y) <= 3 * bins:
        return np.arange(len(y))
    chosen = {0, len(y) - 1}
    for part in np.array_split(np.arange(len(y)), bins):
        finite = np.isfinite(y[part])
        if finite.any():
            own = part[finite]
            chosen |= {int(own[np.argmin(y[own])]), int(own[np.argmax(y[own])])}
        if not finite.all():
            chosen.add(int(part[~finite][0]))
    return np.array(sorted(chosen))


def chart(
    lines: Sequence[Line],
    label: str,
    x_label: str,
    *,
    log_x: bool | None = None,
    level: float | None = None,
    events: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Lines in one frame.

    Args:
        lines: whose numbers that are not finite are gaps, with a mark at the edge of the frame.
        label: what the chart shows, for those who do not see it.
        x_label: below the axis.
        log_x: whether the axis is logarithmic; None: where its values need that.
        level: a dashed horizontal line; None: none.
        events: places on the x axis, and what happened there.
    """
    pad = PAD if any(line.kind == "points" for line in lines) else 0.0
    x = axis([value for line in lines for value in line.x] + [place for place, _ in events], log_x, pad)
    y = axis([value for line in lines for value in line.y] + ([level] if level is not None else []), None)

    def at(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * x.share(value)

    def up(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * y.share(value)

    parts = [_grid(x, y, at, up, x_label)]
    parts += [_vertical(at(place), what) for place, what in events]
    if level is not None and math.isfinite(level) and (level > 0 or not y.log):
        parts.append(element("path", d=f"M{LEFT} {up(level):.1f}H{RIGHT}", class_="level"))
    for line in lines:
        parts += _draw(line, x, y, at, up)
    size = f"0 0 {WIDTH} {HEIGHT}"
    return element("svg", element("title", label), *parts, viewBox=size, role="img", class_="chart")


def axis(values: Sequence[float], log: bool | None, pad: float = PAD) -> Axis:
    """The axis of some values; None: logarithmic where they are positive and far apart."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    least, most = min(finite), max(finite)
    if log is None:
        log = least > 0 and most > LOG_RATIO * least
    if log and least > 0 and most > least:
        room = (most / least) ** pad
        return Axis(least / room, most * room, True)
    room = (most - least) * pad if most > least else abs(least) / 2 or 1.0
    return Axis(least - room, most + room, False)


def _grid(x: Axis, y: Axis, at: Callable[[float], float], up: Callable[[float], float], x_label: str) -> Markup:
    parts = []
    for tick in y.ticks():
        parts.append(element("path", d=f"M{LEFT} {up(tick):.1f}H{RIGHT}", class_="grid"))
        parts.append(element("text", _tick(tick, 1e5), x=LEFT - 6, y=f"{up(tick) + 3.5:.1f}", text_anchor="end"))
    for tick in x.ticks():
        parts.append(element("path", d=f"M{at(tick):.1f} {BOTTOM}v4", class_="axis"))
        anchor = "end" if at(tick) > RIGHT - 12 else "middle"
        parts.append(element("text", _tick(tick, 1e7), x=f"{at(tick):.1f}", y=BOTTOM + 16, text_anchor=anchor))
    parts.append(element("path", d=f"M{LEFT} {BOTTOM}H{RIGHT}", class_="axis"))
    parts.append(element("text", x_label, x=RIGHT, y=HEIGHT - 4, text_anchor="end", class_="name"))
    return element("g", *parts, aria_hidden="true")


def _tick(value: float, most: float) -> str:
    """The label of a tick, short above `most`."""
    if value and 1e3 <= abs(value) < most and value == round(value):
        return f"{value:,.0f}"
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.3g}")


def _vertical(place: float, what: str) -> Markup:
    return element("path", element("title", what), d=f"M{place:.1f} {TOP}V{BOTTOM}", class_="event")


def _draw(line: Line, x: Axis, y: Axis, at: Callable[[float], float], up: Callable[[float], float]) -> Iterator[Markup]:
    chosen = thin(np.asarray(line.y, float)) if line.kind == "line" else range(len(line.y))
    points = [(i, float(line.x[i]), float(line.y[i])) for i in chosen]
    for i, place, value in points:
        if not math.isfinite(value):
            edge = BOTTOM - 5 if value < 0 else TOP + 5
            what = f"{line.label}: {short(value)} at {short(line.x[i])}"
            cross = f"M{at(place) - 3.5:.1f} {edge - 3.5}l7 7m0 -7l-7 7"
            yield element("path", element("title", what), d=cross, class_="not-finite")
        elif line.kind == "points":
            note = element("title", line.notes[i] if line.notes else f"{line.label}: {short(value)}")
            yield element("circle", note, cx=f"{at(place):.1f}", cy=f"{up(value):.1f}", r=3.2, class_=line.style)
    if line.kind != "points":
        drawn = [(at(place), up(value)) if math.isfinite(value) else None for _, place, value in points]
        yield element("path", d=_path(drawn, line.kind == "step"), class_=f"line {line.style}")


def _path(points: Sequence[tuple[float, float] | None], step: bool) -> str:
    """The path through points; None is a gap, and a point alone is a dot."""
    words, pen = [], False
    for i, point in enumerate(points):
        if point is None:
            pen = False
            continue
        place, height = point
        if not pen:
            alone = i + 1 == len(points) or points[i + 1] is None
            words.append(f"M{place:.1f} {height:.1f}" + ("h0" if alone else ""))
        else:
            words.append(f"H{place:.1f}V{height:.1f}" if step else f"L{place:.1f} {height:.1f}")
        pen = True
    return "".join(words)


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """What the styles mean: pairs of a style and its label."""
    items = [element("li", swatch(style), label) for style, label in entries]
    return element("ul", *items, class_="legend")


def swatch(style: str) -> Markup:
    """A short piece of a line."""
    piece = element("path", d="M1 5H23", class_=f"line {style}")
    return element("svg", piece, viewBox="0 0 24 10", class_="swatch", aria_hidden="true")


def figure(content: Markup, title: object, *more: object) -> Markup:
    """A chart or picture with its caption above."""
    return element("figure", element("figcaption", element("strong", title), join([" ", *more])), content)
