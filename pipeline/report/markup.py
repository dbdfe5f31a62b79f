"""HTML and SVG from Python: everything is escaped unless it is Markup already."""

import math
from collections.abc import Iterable, Sequence
from html import escape

VOID = {"img", "meta", "br"}
"""Elements without a closing tag."""


class Markup(str):
    """HTML that must not be escaped again; `element` and `join` make it."""


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """An element; children and attributes are escaped, except for Markup. An attribute that is None is left out.

    >>> element("p", "a < b", element("b", "!"), class_="note")
    '<p class="note">a &lt; b<b>!</b></p>'
    """
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{words}>" if tag in VOID else f"<{tag}{words}>{join(children)}</{tag}>")


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after the other, escaped as `element` does."""
    return Markup(between.join(part if isinstance(part, Markup) else escape(str(part)) for part in parts))


def table(head: Sequence[object], rows: Iterable[Sequence[object]], label: str, class_: str | None = None) -> Markup:
    """A table whose first column names the rows; it scrolls by itself where the page is narrow."""
    titles = element("tr", *(element("th", title, scope="col") for title in head))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    content = element("table", element("thead", titles), element("tbody", *body), class_=class_)
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)


def fold(title: object, *content: object) -> Markup:
    """Content that opens on request."""
    return element("details", element("summary", title), *content)


def show_number(value: float | None, unit: str = "", digits: int = 4) -> Markup:
    """A number to some digits, with its exact value for machines; one that is not finite is marked, and none is a dash.

    >>> show_number(1234567)
    '<data value="1234567">1,234,567</data>'
    """
    if value is None:
        return Markup("–")
    number = element("data", short(value, digits), value=repr(value), class_=None if math.isfinite(value) else "bad")
    return join([number, unit])


def short(value: float, digits: int = 4) -> str:
    """A number in few characters.

    >>> [short(value) for value in (3, 0.123456, 20000.0, 2e9, float("nan"))]
    ['3', '0.1235', '20,000', '2e+09', 'not a number']
    """
    if isinstance(value, int):
        return f"{value:,}"
    if math.isfinite(value):
        return f"{value:,.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"
    return "not a number" if math.isnan(value) else "infinite" if value > 0 else "-infinite"


def show_seconds(seconds: float) -> Markup:
    """A duration in words.

    >>> show_seconds(125.0)
    '<data value="125.0">2 min 5 s</data>'
    """
    hours, rest = divmod(round(seconds), 3600)
    text = f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
    if seconds < 60:
        text = f"{seconds:.3g} s"
    return element("data", text, value=repr(seconds))


def show_setting(value: object) -> str:
    """The value of a setting as JSON has it, in words."""
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
