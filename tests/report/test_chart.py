"""Charts: what is drawn of long curves, and of numbers that are not finite."""

import re

import numpy as np
import pytest

from pipeline.report.chart import BINS, Line, axis, chart, thin


def test_a_long_curve_keeps_its_peaks_and_ends():
    y = np.random.default_rng(0).normal(size=50_000)
    y[12_345], y[23_456] = 40.0, -50.0
    chosen = thin(y)
    assert {0, 12_345, 23_456, len(y) - 1} <= set(chosen)
    assert len(chosen) <= 2 * BINS + 2
    assert (np.diff(chosen) > 0).all()
    for part in np.array_split(np.arange(len(y)), BINS):
        own = chosen[(chosen >= part[0]) & (chosen <= part[-1])]
        assert (y[own].min(), y[own].max()) == (y[part].min(), y[part].max())


def test_a_short_curve_stays_whole():
    assert list(thin(np.ones(3 * BINS))) == list(range(3 * BINS))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_in_a_long_curve_is_a_gap_and_a_mark(bad):
    y = np.sin(np.arange(30_000) / 300)
    y[20_000] = bad
    assert 20_000 in thin(y)
    drawn = chart([Line("run", list(range(len(y))), list(y), "c0")], "sine", "update")
    assert drawn.count('class="not-finite"') == 1
    word = "not a number" if np.isnan(bad) else "infinite"
    assert f"{word} at 20,000" in drawn
    (path,) = re.findall(r'<path d="(M[^"]*)" class="line c0"', drawn)
    assert path.count("M") == 2


def test_a_curve_without_any_finite_number_is_all_marks():
    drawn = chart([Line("run", [0, 1, 2], [np.nan] * 3, "c0")], "nothing", "update")
    assert drawn.count('class="not-finite"') == 3
    assert "nan" not in drawn.lower().replace("not a number", "")


def test_a_point_alone_is_a_dot():
    drawn = chart([Line("run", [0, 1, 2], [np.nan, 3.0, np.nan], "c0")], "one", "update")
    assert re.search(r'<path d="M[\d.]+ [\d.]+h0" class="line c0"', drawn)


def test_an_axis_is_logarithmic_where_positive_values_are_far_apart():
    assert axis([0.001, 5.0], None).log
    assert not axis([0.0, 5.0], None).log
    assert not axis([1.0, 5.0], None).log
    far = axis([1e-3, 1e3], None)
    assert far.share(1.0) == pytest.approx(0.5)
    for some in (far, axis([1.0, 5.0], None), axis([7.0], None), axis([], None), axis([-3e-9, 3e-9], None)):
        ticks = some.ticks()
        assert len(ticks) >= 2
        assert all(-1e-6 <= some.share(tick) <= 1 + 1e-6 for tick in ticks)


def test_what_users_name_is_escaped():
    drawn = chart([Line('<script>"', [0], [np.nan], "c0")], "</svg><script>", '"x"')
    assert "<script>" not in drawn
    assert "&lt;/svg&gt;&lt;script&gt;" in drawn
