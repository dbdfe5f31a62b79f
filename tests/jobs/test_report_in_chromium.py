"""The page of a report in a browser: it loads nothing, complains of nothing, and fits a phone in both schemes."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from chromium import chromium, find_chromium
from PIL import Image
from reporting import DIGITS

from pipeline.report.markup import short

pytestmark = pytest.mark.skipif(not find_chromium(), reason="no Chromium: apt-get install chromium")

PHONE, DESKTOP = 400, 1280


@pytest.fixture
def page(command, train):
    runs = [train(f"{DIGITS} --seed {seed}", f"seed-{seed}") for seed in (0, 1)]
    rows = [json.loads(line) for line in Path(runs[1], "metrics.jsonl").read_text().splitlines()]
    rows[-1]["energy/gap"] = float("nan")
    Path(runs[1], "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = command(f"report {' '.join(runs)} --out page.html")
    assert code == 0, err
    return Path("page.html").resolve().as_uri()


@pytest.fixture
def browser(tmp_path):
    with chromium(tmp_path / "profile") as one:
        yield one


METRICS = """[...document.querySelectorAll('[aria-label="Metrics"] tbody tr')].map(
    row => [row.cells[0].innerText, row.cells[1].querySelector('data').value, row.cells[1].innerText])"""
OVERFLOWING = """[...document.querySelectorAll('body *')].filter(one => {
    const box = one.getBoundingClientRect();
    return box.right > innerWidth + 0.5 && !one.closest('.scroll');
}).map(one => one.outerHTML.slice(0, 80))"""
UNFOLD = "document.querySelectorAll('details').forEach(one => one.open = true)"
CONTRAST = """[...document.querySelectorAll('p, td, th, h2, a, .badge, summary, figcaption, svg text')].map(one => {
    const style = getComputedStyle(one), own = one.namespaceURI.endsWith('svg') ? style.fill : style.color;
    let back = one;
    while (back && getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
    return [own, getComputedStyle(back || document.documentElement).backgroundColor];
})"""


def luminance(colour):
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.1)."""
    parts = np.array([float(word) for word in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(pair):
    dark, light = sorted(map(luminance, pair))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page_loads_nothing_fits_and_is_readable(browser, page, width, scheme):
    tab = browser.open(page, width, scheme)
    result = json.loads(Path("seed-0/result.json").read_text())["metrics"]
    shown = {name: (float(value), text) for name, value, text in tab.evaluate(METRICS)}
    assert {name: value for name, (value, _) in shown.items()} == {name: one["value"] for name, one in result.items()}
    assert all(text.startswith(short(value)) for value, text in shown.values())
    for _ in range(2):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(OVERFLOWING) == []
        tab.evaluate(UNFOLD)
    assert tab.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert tab.evaluate("document.images.length") >= 8
    assert tab.evaluate("document.querySelectorAll('.not-finite').length") == 1
    assert min(map(contrast, tab.evaluate(CONTRAST))) >= 4.5
    with Image.open(io.BytesIO(tab.screenshot(full=False))) as image:
        corner = np.asarray(image.convert("L"))[-20:, :8].mean()
    assert (corner < 60) if scheme == "dark" else (corner > 200)
    assert [url for url in tab.requests() if not url.startswith("data:image/png")] == [page]
    assert tab.complaints() == []


def test_a_request_that_leaves_a_page_and_its_complaints_would_be_seen(browser, tmp_path):
    """So that the test above can fail."""
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="http://127.0.0.1:9/x.png"><div style="width: 900px">wide</div><script>x = y</script>')
    tab = browser.open(bad.as_uri(), PHONE)
    assert "http://127.0.0.1:9/x.png" in tab.requests()
    assert tab.complaints()
    assert tab.evaluate("document.documentElement.scrollWidth") > PHONE
