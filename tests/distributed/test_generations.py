"""Ray Tune around a population: the same as without Ray, whoever dies."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from running import CPU, local_pool

from pipeline.distributed import tune
from pipeline.distributed.generations import population_of, search
from pipeline.recipes.anatomy import Anatomy
from pipeline.runs.job import override
from pipeline.runs.job_json import load_run
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin
from pipeline.search.budgets import TrialBudget
from pipeline.search.population import begin_stretch, plan_stretch, run_stretch
from pipeline.search.trials import read_records

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture
def plan(small, tmp_path):
    from jobs.anatomy import space  # here: pickle cannot find it in modules that tests of commands import again

    recipe = Anatomy(langevin=Langevin(5, 1.0, 0.05), batch_size=16, width=4, bank=80, data_noise=0.0)
    job = override(small, recipe=recipe, source="eight-gaussians", max_items=400, lanes=2, updates=1, out="")
    budget = TrialBudget("grid_kl", gradient_evaluations=6000, report_count=3, sample_count=20)
    return tune.SearchPlan(job, space, budget, 2, "random", "pbt", 0, str(tmp_path / "search"), 0.25, 0.0)


def in_this_process(plan):
    """The records of the search without Ray."""
    members = population_of(plan)
    for generation in range(1, plan.trial_budget.report_count + 1):
        for member in range(members.size):
            stretch = plan_stretch(members, generation, member)
            begin_stretch(members, stretch)
            run_stretch(members, stretch, CPU, lambda job=stretch.job: local_pool(job))
    return records(plan)


def records(plan):
    """Without measured times."""
    found = read_records(Storage.at(plan.out) / "trials")
    return {k: {**v, "reports": [{**r, "cpu_seconds": 0} for r in v["reports"]]} for k, v in found.items()}


def weights(plan):
    folders = sorted((Path(plan.out) / "trials").iterdir())
    return {f.name: json.loads((f / "result.json").read_text())["weights_sha256"] for f in folders}


@pytest.mark.slow
def test_generations_on_ray_are_those_of_one_process(ray_session, plan, tmp_path):
    alone = replace(plan, out=str(tmp_path / "alone"))
    expected = in_this_process(alone)
    search(plan)
    assert records(plan) == expected
    assert weights(plan) == weights(alone)
    assert {one["origin"][:2] for name, one in expected.items() if name.startswith("03")} == {"02"}
    assert any(load_run(f"{plan.out}/trials/03-0{member}").changes for member in range(2))
    assert not (Path(plan.out) / "trials" / "01-00" / "checkpoints").exists()  # nothing goes on from it
    assert (Path(plan.out) / "trials" / "02-00" / "checkpoints").exists()
    before = {path: path.stat().st_mtime_ns for path in Path(plan.out, "trials").rglob("*") if path.is_file()}
    search(plan)  # it has ended: no stretch runs
    assert {path: path.stat().st_mtime_ns for path in Path(plan.out, "trials").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_stretch_whose_process_is_killed_continues(ray_session, plan, tmp_path):
    budget = replace(plan.trial_budget, gradient_evaluations=60_000)
    plan = replace(plan, trial_budget=budget)
    expected, killed = in_this_process(replace(plan, out=str(tmp_path / "alone"))), []

    def kill():
        """Kill whoever runs trials, once one of the second generation has begun to learn."""
        while not list(Path(plan.out).glob("trials/02-*/checkpoints/update-*/manifest.json")):
            time.sleep(0.02)
        for process in psutil.Process().children(recursive=True):
            if any("ImplicitFunc" in word for word in process.cmdline()):
                process.kill()
                killed.append(process.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    search(plan)
    thread.join()
    assert killed
    assert records(plan) == expected
