"""The parts of a report: markup, settings that differ, labels, embedded pictures."""

import doctest
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.report import differences, markup, pictures
from pipeline.report.lineup import line_up, seed_groups
from pipeline.report.markup import Markup, element, show_number, table
from pipeline.runs import job_json
from pipeline.runs.job import override
from pipeline.runs.record import RunRecord
from pipeline.runs.storage import Storage


@pytest.mark.parametrize("module", [markup, differences, pictures, job_json])
def test_the_examples_run(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_everything_but_markup_is_escaped():
    assert element("p", "<b>&", title='"<') == '<p title="&quot;&lt;">&lt;b&gt;&amp;</p>'
    assert element("p", element("b", "x")) == "<p><b>x</b></p>"
    assert isinstance(element("p"), Markup)
    drawn = table(["<i>"], [["<b>", "<script>"]], '"')
    assert not {"<i>", "<b>", "<script>"} & set(drawn.replace(">", "> ").split())


@pytest.mark.parametrize(
    ("value", "word"), [(math.nan, "not a number"), (math.inf, "infinite"), (-math.inf, "-infinite")]
)
def test_a_number_that_is_not_finite_is_shown_and_marked(value, word):
    assert show_number(value) == f'<data value="{value!r}" class="bad">{word}</data>'


def record(job, place="run"):
    return RunRecord(Storage.at(place), place, job, {}, [], {}, {}, "", 0, {}, {}, "")


def test_settings_that_differ_are_those_and_no_others(small):
    other = override(small, recipe=replace(small.recipe, langevin=replace(small.recipe.langevin, steps=7)), seed=3)
    flat = {name: differences.flat_settings(job) for name, job in (("a", small), ("b", other))}
    assert differences.differing(flat) == [["langevin.steps", "5", "7"], ["seed", "0", "3"]]
    assert differences.differing({"a": flat["a"], "again": flat["a"]}) == []
    absent = {name: value for name, value in flat["a"].items() if name != "bank"}
    assert differences.differing({"a": flat["a"], "c": absent}) == [["bank", "80", "–"]]


def test_seeds_of_a_setting_share_a_colour_and_differ_in_shade(small):
    jobs = [override(small, seed=seed, out=f"somewhere-{seed}") for seed in (0, 1)]
    jobs += [override(small, updates=9, checkpoint_every=3), override(small, actors=2)]
    runs = line_up([record(job, f"run-{i}") for i, job in enumerate(jobs)], [None] * 4)
    assert [run.setting for run in runs] == [0, 0, 1, 0]
    assert len({run.style for run in runs}) == 4
    assert [run.style.split()[0] for run in runs] == ["c0", "c0", "c1", "c0"]
    assert [run.label for run in runs] == ["run-0", "run-1", "run-2", "run-3"]
    assert {number: len(some) for number, some in seed_groups(runs).items()} == {0: 3}
    assert [run.label for run in line_up([record(job) for job in jobs[:2]], [None] * 2)] == [
        "small, seed 0",
        "small, seed 1",
    ]


def test_a_large_picture_is_made_smaller_and_a_small_one_stays():
    def png(width):
        pixels = np.random.default_rng(0).integers(0, 255, (width, width, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    import base64

    small, large = png(60), png(900)
    assert base64.b64decode(pictures.data_uri(small).partition(",")[2]) == small
    assert len(pictures.data_uri(large)) < 500_000 < len(large)
