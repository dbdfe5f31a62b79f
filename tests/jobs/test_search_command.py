"""`python -m jobs.search`: its spaces, how it refuses bad input, and its results."""

import json
from dataclasses import is_dataclass, replace
from pathlib import Path

import optuna
import pytest

from jobs import EXPERIMENTS, search
from jobs.cli.experiment import load_experiment, named_presets, read_presets
from jobs.cli.search_args import Search
from jobs.cli.search_preset import preset_module
from pipeline.data.dataset import load_data
from pipeline.distributed.tune import SearchPlan
from pipeline.runs.job import check_job, override
from pipeline.runs.job_json import load_run
from pipeline.schedule import Change
from pipeline.schedule import changed_settings as changes
from pipeline.search.budgets import TrialBudget, gradients_per_update
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
        if getattr(job.recipe, "data_noise", 0) and hasattr(job.recipe, "langevin"):
            assert recipe.data_noise >= recipe.langevin.noise
        for setting, distribution in trial.distributions.items():
            low, high = getattr(distribution, "low", 1), getattr(distribution, "high", 1)
            if low > 0 and high / low > 20:
                assert distribution.log, f"{setting}: log-uniform where scales demand it"
    assert set(changes(job.recipe, recipe)) <= {*_fields(job.recipe)}


def _fields(recipe):
    nested = [value for value in vars(recipe).values() if is_dataclass(value)]
    return [name for one in [recipe, *nested] for name in vars(one)]


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
        ("grid-cells --objective kl", "--objective kl: samples of GridCells are not data"),
        ("flow", "experiment flow: it has no space to search; these have: short_run, anatomy, "),
        ("short-runs", "experiment short-runs: not one of short_run, "),
        ("short-run --objective fretchet", "objective fretchet: not one of frechet, "),
        ("short-run --trial-actors 3", "cannot be split into 3 lanes"),
        ("short-run --front --scheduler asha", "--scheduler asha: goes by quality alone: --front needs none"),
        ("short-run --front --scheduler pbt", "--scheduler pbt: goes by quality alone: --front needs none"),
        ("flow-contrastive --front", "--front: a sample of FlowContrastive takes no chain"),
        ("short-run --suggestions nsga2", "--suggestions nsga2: needs --front"),
        (
            "short-run --scheduler pbt --suggestions tpe",
            "--suggestions tpe: with --scheduler pbt the first settings are",
        ),
        ("short-run --scheduler pbt --trials 1", "--scheduler pbt: needs 2 or more --trials and --reports"),
        ("short-run --scheduler pbt --reports 1", "--scheduler pbt: needs 2 or more --trials and --reports"),
        ("short-run --scheduler hyperband", "--scheduler"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(command, line, why, ray_session):
    code, _, err = command(f"search {line} --out new")
    assert code == 2
    assert why in err
    assert err.count("\n") == 1
    assert not Path("new").exists()


@pytest.mark.slow
def test_a_search_ends_with_a_preset_that_is_the_winner(command, ray_session):
    search_line = (
        "search short-run --preset eight-gaussians --budget 3000 --reports 3 --samples 30 --trials 2 --confirm 1"
    )
    code, out, err = command(f"{search_line} --confirm 1 --seeds 1 --cpus-per-trial .25 --out found")
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
    won = "The preset itself" if result["best"] == "preset" else "best-1, which is better than the preset"
    assert f"best                     {won}" in out
    printed = next(row for row in out.splitlines() if row.startswith("train it"))
    line = printed.partition("python -m jobs.")[2]
    assert line in Path("found/preset.py").read_text()
    code, _, err = command(f"{line} --seed 1 --learners 0 --actors 0 --eval-samples 0 --out again")
    assert code == 0, err
    confirmed = json.loads(Path(f"found/confirm/{result['best']}-seed-1/result.json").read_text())
    assert json.loads(Path("again/result.json").read_text())["weights_sha256"] == confirmed["weights_sha256"]
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
    code, out, err = command(f"{search_line} --confirm 1 --seeds 1 --cpus-per-trial .25 --out found --resume-if-exists")
    assert (code, out) == (0, f"{Path('found').resolve()} has finished; see its result.json\n"), err
    code, _, err = command(f"{search_line} --confirm 1 --seeds 2 --cpus-per-trial .25 --out found --resume-if-exists")
    assert (code, err) == (2, "error: --seeds 2: the search has 1\n")


def test_the_preset_of_a_search_has_its_data_and_labels(tmp_path):
    module = SEARCHABLE["symbol_vector"]
    preset = override(named_presets(module)["digits"], seed=3)
    changed = {"max_items": 900, "labels_per_class": 7, "test_share": 0.3, "validation_share": 0.1}
    job = override(preset, **changed, learners=0, eval_samples=0, seed=0, out=str(tmp_path))
    plan = SearchPlan(job, module.space, TrialBudget("accuracy", 10**5), 4, "tpe", "asha", 0, str(tmp_path), 1.0, 0.0)
    recipe = replace(job.recipe, tilt=0.125 + 1e-12)
    found = replace(job, recipe=recipe, changes=(Change(5, {"tilt": 0.5, "prior_steps": 3}), Change(9, {"tilt": 1.0})))
    text = preset_module(plan, preset, {"searched": found, "K3": job}, "It won")
    (tmp_path / "preset.py").write_text(text)
    read, other = read_presets(str(tmp_path / "preset.py"), module).values()
    assert text.count("digits-searched") == text.count("digits-K3") == 1
    assert (read.recipe, read.changes, read.data, read.lanes) == (recipe, found.changes, job.data, job.lanes)
    assert (read.seed, read.resources, read.evaluation) == (3, preset.resources, preset.evaluation)
    assert (other.recipe, other.changes) == (job.recipe, ())


@pytest.mark.slow
def test_the_schedule_that_the_winner_followed_is_a_preset(command, ray_session):
    line = "search anatomy --preset eight-gaussians-convergent --scheduler pbt --budget 60000 --reports 3 --trials 2"
    line = f"{line} --max-items 500 --seed 1 --confirm 0 --cpus-per-trial .25 --out found"
    code, out, err = command(line)
    assert code == 0, err
    assert "generation 3 of 3, best grid_kl" in err
    result = json.loads(Path("found/result.json").read_text())
    assert result["counts"]["complete"] == 2
    spent = result["counts"]["gradient_evaluations"]
    assert 2 * 60000 <= spent < 2 * 60000 + 6 * 200 * 100  # every gradient counts once, whoever took over whom
    assert Path("found/schedules.png").read_bytes().startswith(b"\x89PNG")
    best = f"found/trials/{result['trials'][0]['name']}"
    assert load_run(best).changes
    again = out.partition("python -m jobs.")[2].splitlines()[0]
    nothing = "--learners 0 --actors 0 --eval-samples 0 --eval-long-run-steps 0"
    code, _, err = command(f"{again} --seed 1 {nothing} --out again")  # the search's own seed
    assert code == 0, err
    assert load_run("again").changes == load_run(best).changes
    hashes = [json.loads(Path(one, "result.json").read_text())["weights_sha256"] for one in ("again", best)]
    assert hashes[0] == hashes[1]
    code, _, err = command("resume found")
    assert code == 0, err
    assert json.loads(Path("found/result.json").read_text()) == result
    code, out, err = command(f"{line} --resume-if-exists")
    assert (code, out) == (0, f"{Path('found').resolve()} has finished; see its result.json\n"), err


@pytest.mark.slow
def test_a_search_for_the_front_ends_with_its_members(command, ray_session):
    line = "search short-run --preset eight-gaussians --front --budget 3000 --reports 1 --samples 30 --trials 6"
    code, out, err = command(f"{line} --confirm 2 --seeds 1 --cpus-per-trial .25 --out found")
    assert code == 0, err
    result = json.loads(Path("found/result.json").read_text())
    trials, front = result["trials"], result["front"]
    assert result["counts"]["complete"] == 6
    for one in front:
        others = [t for t in trials if t["name"] != one["name"]]
        assert not any(
            t["gradients_per_sample"] <= one["gradients_per_sample"] and t["quality"] <= one["quality"] for t in others
        )
    again = [one for one in front if one["confirmed"]]
    assert len(again) == min(2, len(front))
    assert again[-1] == front[-1]  # the best of all
    assert Path("found/front.png").read_bytes().startswith(b"\x89PNG")
    names = [f"eight-gaussians-K{one['gradients_per_sample']}" for one in reversed(again)]
    text = Path("found/preset.py").read_text()
    assert [name for name in names if f'"{name}": Job(' in text] == names
    table = out[out.index("front  ") :]
    assert all(f"{one['name']:24} {one['gradients_per_sample']:5}  {one['quality']:.4g}" in table for one in front)
    code, _, err = command(
        f"short_run --preset-file found/preset.py {names[-1]} --learners 0 --actors 0 --seed 1 --out again"
    )
    assert code == 0, err
    confirmed = json.loads(Path(f"found/confirm/{names[-1].rpartition('-')[2]}-seed-1/result.json").read_text())
    assert json.loads(Path("again/result.json").read_text())["weights_sha256"] == confirmed["weights_sha256"]


@pytest.mark.slow
def test_a_search_of_two_stages_trains_the_flow_once(command, monkeypatch, ray_session):
    module = SEARCHABLE["neural_transport"]
    first = override(module.FIRST_STAGE["eight-gaussians"], updates=3)
    monkeypatch.setattr(module, "FIRST_STAGE", {"eight-gaussians": first})
    line = "search neural-transport --preset eight-gaussians --budget 20000 --reports 1 --samples 30 --trials 2"
    code, out, err = command(f"{line} --confirm 1 --seeds 1 --cpus-per-trial .25 --out found")
    assert code == 0, err
    flow = str(Path("found/flow/checkpoints/update-00000003").resolve())
    runs = [*Path("found/trials").iterdir(), *Path("found/confirm").iterdir()]
    assert {load_run(str(run)).init_from for run in runs if (run / "job.json").exists()} == {flow}
    assert len(runs) >= 4
    result = Path("found/result.json").read_text()
    code, _, err = command("resume found")
    assert code == 0, err
    assert Path("found/result.json").read_text() == result
    line = out.partition("python -m jobs.")[2].splitlines()[0]
    code, _, err = command(f"{line} --seed 1 --learners 0 --actors 0 --eval-samples 0 --out again")
    assert code == 0, err
    winner = Path("found/confirm", f"{json.loads(result)['best']}-seed-1", "result.json")
    weights = [json.loads(path.read_text())["weights_sha256"] for path in (winner, Path("again/result.json"))]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has no PRESETS, a dictionary of jobs"),
        ("PRESETS = {'a': 3}", "it has no PRESETS, a dictionary of jobs"),
        ("PRESETS = {", "it cannot be read: SyntaxError: '{' was never closed (preset.py, line 1)"),
        ("import nothing_of_this_name", "it cannot be read: ModuleNotFoundError: No module named"),
        ("from jobs.flow import PRESETS", "it has a MaximumLikelihoodFlow, not a ShortRun"),
        (None, "it cannot be read: FileNotFoundError: "),
    ],
)
def test_a_file_without_presets_is_one_line(command, text, why):
    command("--help")  # in the command's folder from here on
    if text is not None:
        Path("preset.py").write_text(text)
    code, _, err = command("short_run --preset-file preset.py --out run")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: --preset-file preset.py: {why}")
    assert command("short_run --preset-file")[::2] == (2, "error: --preset-file: expected one argument\n")


def test_the_presets_of_a_file_take_flags_and_show_help(command):
    command("--help")
    Path("own.py").write_text("from jobs.short_run import PRESETS\nPRESETS = {'my-own': PRESETS['digits']}")
    code, out, _ = command("short_run --preset-file=own.py my-own --help")
    assert code == 0
    assert "my-own" in out
    assert "digits-K40" not in out
    code, _, err = command("short_run my-own --preset-file own.py --updates 0")
    assert (code, err) == (2, "error: --updates 0: must be greater than or equal to 1\n")


def test_the_default_objective_suits_experiment_and_data():
    def usual(line, data):
        name, preset, *held_out_class = line.split()
        module = SEARCHABLE[name]
        job = module.PRESETS[preset]
        job = override(job, held_out_class=int(held_out_class[0]) if held_out_class else None)
        return search._objective(Search(name), module, job, load_data(data)).name

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
