"""`python -m jobs.search`: its spaces, how it refuses bad input, and its results."""

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from jobs import EXPERIMENTS, search
from jobs.cli.experiment import load_experiment
from jobs.cli.search_report import changes
from pipeline.data.dataset import load_data
from pipeline.runs.job import check_job, override
from pipeline.runs.job_json import load_run
from pipeline.search.budgets import gradients_per_update
from pipeline.search.objectives import OBJECTIVES

optuna.logging.set_verbosity(optuna.logging.WARNING)
MODULES = {name: load_experiment(name) for name in EXPERIMENTS}
SEARCHABLE = {name: module for name, module in MODULES.items() if hasattr(module, "space")}
PRESETS = [(name, preset) for name, module in SEARCHABLE.items() for preset in module.PRESETS]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_whatever_a_space_suggests_is_a_job(name, preset):
    module = SEARCHABLE[name]
    job = module.PRESETS[preset]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        recipe = module.space(trial, job.recipe, 10**6)
        check_job(replace(job, recipe=recipe))
        assert module.space(optuna.trial.FixedTrial(trial.params), job.recipe, 10**6) == recipe
        if getattr(job.recipe, "data_noise", 0):
            assert recipe.data_noise >= recipe.langevin.noise
        for setting, distribution in trial.distributions.items():
            low, high = getattr(distribution, "low", 1), getattr(distribution, "high", 1)
            if low > 0 and high / low > 20:
                assert distribution.log, f"{setting}: log-uniform where scales demand it"
    assert set(changes(job.recipe, recipe)) <= {*_fields(job.recipe)}


def _fields(recipe):
    nested = [getattr(recipe, "langevin", None)]
    return [name for one in [recipe, *nested] if one is not None for name in vars(one)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("short-run --preset mnits", "preset mnits: not one of digits, digits-K40, mnist, "),
        ("short-run --trials 0", "--trials 0: must be greater than or equal to 1"),
        ("short-run --objective kl", "--objective kl: the density of digits is not known"),
        ("anatomy --preset rings-convergent --objective frechet", "--objective frechet: needs images with labels"),
        ("latent-prior --objective auprc", "--objective auprc: needs a held_out_class"),
        ("short-run --validation-share 0", "--objective frechet: needs held-out items: a validation_share"),
        ("short-run --cpus-per-trial 500", "a trial needs 500 CPU"),
        ("flow", "experiment flow: it has no space to search; these have: short_run, anatomy, "),
        ("short-runs", "experiment short-runs: not one of short_run, "),
        ("short-run --objective fretchet", "objective fretchet: not one of frechet, "),
        ("short-run --trial-actors 3", "cannot be split into 3 lanes"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(command, line, why, ray_session):
    code, _, err = command(f"search {line} --out new")
    assert code == 2
    assert why in err
    assert err.count("\n") == 1
    assert not Path("new").exists()


def test_a_search_ends_with_a_preset_that_is_the_winner(command, ray_session):
    line = "search short-run --preset eight-gaussians --budget 3000 --reports 3 --samples 30 --trials 2 --confirm 1"
    code, out, err = command(f"{line} --seeds 1 --cpus-per-trial .25 --out found")
    assert code == 0, err
    result = json.loads(Path("found/result.json").read_text())
    assert sum(result["counts"][name] for name in ("complete", "stopped_early", "diverged", "failed")) == 2
    assert set(result["confirmed"]) == {"preset", "best-1"}
    assert all(len(one["quality"]) == 1 for one in result["confirmed"].values())
    means = {name: sum(one["quality"]) for name, one in result["confirmed"].items()}
    assert result["best"] == min(means, key=means.get)
    trial = result["trials"][0]
    recipe, written = load_run(f"found/trials/{trial['name']}").recipe, SEARCHABLE["short_run"].PRESETS
    changed = changes(written["eight-gaussians"].recipe, recipe)
    assert changed["noise"] == trial["settings"]["noise"]
    assert result["confirmed"]["best-1"]["settings"] == changed
    for name in ("costs.png", "slices.png"):
        assert Path("found", name).read_bytes().startswith(b"\x89PNG")
    assert f"best                     {result['best']}" in out
    pasted = Path("found/preset.py").read_text()
    assert 'replace(PRESETS["eight-gaussians"], updates=' in pasted
    command_line = next(row for row in pasted.splitlines() if row.startswith("# python -m jobs."))
    code, _, err = command(
        f"{command_line.removeprefix('# python -m jobs.')} --eval-samples 0 --updates 2 --out pasted"
    )
    assert code == 0, err
    assert command("search short-run --out found")[::2] == (
        2,
        "error: --out found: exists: a search is never overwritten; continue it with --resume-if-exists, "
        "or jobs.resume found\n",
    )
    assert command("resume found --updates 7")[::2] == (
        2,
        "error: --updates: a search continues with its own settings, without flags\n",
    )
    code, _, err = command("resume found")
    assert code == 0, err
    assert json.loads(Path("found/result.json").read_text()) == result


def test_the_default_objective_suits_experiment_and_data():
    def usual(line, data):
        name, preset, *held_out_class = line.split()
        module = SEARCHABLE[name]
        job = module.PRESETS[preset]
        job = override(job, held_out_class=int(held_out_class[0]) if held_out_class else None)
        return search._objective(search.Search(name), module, job, load_data(data)).name

    assert usual("short_run digits", "digits") == "frechet"
    assert usual("short_run eight-gaussians", "eight-gaussians") == "kl"
    assert usual("anatomy eight-gaussians-convergent", "eight-gaussians") == "grid_kl"
    assert usual("anatomy digits-convergent", "digits") == "frechet_long"
    assert usual("latent_prior digits 4", "digits") == "auprc"
    assert usual("symbol_vector digits", "digits") == "accuracy"
    assert set(OBJECTIVES) > {"frechet", "kl", "grid_kl", "auprc", "accuracy", "mse"}


def test_the_default_budget_is_that_of_the_preset():
    from pipeline.recipe import init_networks

    job = SEARCHABLE["short_run"].PRESETS["digits-K40"]
    data = load_data("digits")
    nets = init_networks(job.recipe, data.spec, 0, __import__("torch").device("cpu"))
    assert job.updates * gradients_per_update(job.recipe, nets) == 600 * 64 * 40
