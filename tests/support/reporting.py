"""Reports as tests read them."""

from html.parser import HTMLParser
from pathlib import Path

from running import SMALL

DIGITS = f"short_run digits {SMALL.replace('--eval-samples 0', '--eval-samples 20')} --updates 4 --checkpoint-every 1"
"""A run with grids of samples and final metrics."""


class Page(HTMLParser):
    """Text, tables by their labels, pictures, elements and addresses of a page."""

    def __init__(self, file):
        super().__init__()
        self.text, self.tables, self.images, self.tags, self.addresses, self.open = "", {}, [], [], [], []
        self.feed(Path(file).read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.open.append(tag)
        self.addresses += [attrs[name] for name in ("href", "src", "srcset", "data", "action") if name in attrs]
        if tag == "img":
            self.images.append(attrs["alt"])
        if attrs.get("role") == "region":
            self.rows = self.tables[attrs["aria-label"]] = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append({"text": "", "values": []})
        if tag == "data":
            self._cell()["values"].append(float(attrs["value"]))

    def _cell(self):
        return self.rows[-1][-1] if {"td", "th"} & {*self.open} else {"text": "", "values": []}

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
            self._cell()["text"] += data

    def row(self, table, name):
        """The cells of the row of that name."""
        return next(row[1:] for row in self.tables[table] if row[0]["text"] == name)

    def names(self, table):
        return [row[0]["text"] for row in self.tables[table]]


def report(command, line, out="page.html"):
    Path(out).unlink(missing_ok=True)
    code, printed, err = command(f"report {line} --out {out}")
    assert (code, err) == (0, ""), err
    assert printed.startswith("report ")
    return Page(out)
