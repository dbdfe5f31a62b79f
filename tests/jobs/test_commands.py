"""Commands as a user types them: what they write, and how they refuse bad input."""

import io
import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from running import SMALL, sentences_in

from jobs.cli.launch import start_run
from pipeline.data.dataset import load_data
from pipeline.runs.job import DataSettings, Job, override
from pipeline.runs.job_json import FORMAT
from pipeline.samplers.langevin import Langevin

BAD = {
    "short_runs": "command short_runs: not one of short_run, anatomy",
    "short_run nothing": "preset nothing: not one of digits, digits-K40, mnist",
    "short_run digits --data nothing": "--data nothing: neither a data set",
    "short_run digits --data absent.parquet": "--data absent.parquet: neither a data set",
    "short_run digits --data corrupt.npz": "cannot be read as .npz",
    "short_run digits --data tiny.npz": "too small for the ConvNet",
    "short_run digits --no-such-flag 3": "Unrecognized options: --no-such-flag",
    "short_run digits --batchsize 3": "Unrecognized options: --batchsize, 3 (did you mean --batch-size?)",
    "short_run digits --updates many": "invalid literal",
    "short_run digits --batch-size 30 --lanes 4": "cannot be split into 4 lanes",
    "anatomy digits-convergent --bank 100 --lag 1": "--bank 100: 100 model chains per update at lag 1",
    "anatomy digits-convergent --noise 0": "--noise 0.0: ",
    "anatomy digits-convergent --drift 0": "--drift 0.0: ",
    "anatomy digits-convergent --lr-decay 2": "--lr-decay 2.0: must be less than or equal to 1",
    "short_run digits --keep-checkpoints 1 --on-divergence rollback": "--keep-checkpoints 1: on_divergence=rollback",
    "short_run digits --patience 501": "--patience 501: must be less than or equal to 500",
    "anatomy digits-convergent --data tiny.npz": "too small for the ConvNet",
    "anatomy digits-convergent --data tiny.npz --architecture nonlocal": "too small for the non-local energy",
    "evaluate absent --metrics long-run": "run absent: there is no run here",
    "interpolate absent --pairs 0": "--pairs 0: must be greater than or equal to 1",
    "interpolate absent --n 1": "--n 1: a row has two ends",
    "reconstruct absent --lr 0": "--lr 0.0: must be greater than 0",
    "studies.step_size absent": "run absent: there is no run here",
    "studies.step_size absent --smallest .2 --largest .1": "--smallest 0.2: must not be above the largest",
    "complete absent": "run absent: there is no run here",
    "complete absent --multiples 0": "--multiples 0: must be greater than or equal to 1",
    "complete absent --share 1": "--share 1.0: must be less than 1",
    "short_run_inference digits --tune-grid 1 0": "--tune-grid 1.0 0.0: ",
    "short_run digits --actors 3 --lanes 2": "--actors 3: at most one per lane (2)",
    "short_run digits --learners 3 --lanes 4": "--learners 3: must divide the lanes (4)",
    "short_run digits --learners 3:2": "--learners 3:2: must be 1 <= least <= most",
    "short_run digits --updates -1": "--updates -1: must be greater than or equal to 1",
    "short_run digits --lag -1": "--lag -1: must be greater than or equal to 0",
    "short_run digits --steps -5": "--steps -5: must be greater than or equal to 0",
    "short_run digits --noise -.1": "--noise -0.1: must be greater than or equal to 0",
    "short_run digits --drift nan": "--drift nan: must be a finite number",
    "short_run digits --eval-samples 1": "--eval-samples 1: a distance needs two samples",
    "short_run digits --cpus-per-actor 0": "--cpus-per-actor 0: Ray needs a share",
    "short_run digits --steps 0": "--steps 0: ",
    "short_run digits --name a/b": "--name a/b: ",
    "anatomy digits-nonconvergent --restart-prob .5": "--restart-prob 0.5: ",
    "short_run digits --data words.txt": "a file must be .parquet",
    "anatomy digits-convergent --restart-prob 1.5": "--restart-prob 1.5: must be less than or equal to 1",
    "short_run digits --width 0": "--width 0: must be greater than or equal to 1",
    "short_run digits --out there": "--out there: exists: a run is never overwritten",
    "short_run digits --out nowhere://x": "nowhere://x is not a folder",
    "resume absent": "run absent: there is no run here",
    "resume there": "run there: there is no run here",
    "resume broken": "run broken: job.json is not JSON",
    "resume old": "run old: it has format 3, this version reads 5",
    "resume strange": "job.json is not a job of this version",
    "resume": "Missing from python -m jobs.resume: RUN",
    "sample absent --out a.npy": "run absent: there is no run here",
    "sample absent --out a.txt": "must end in .parquet or .npy",
    "sample absent --out no/a.npy": "is in a folder that does not exist",
    "sample absent --out a.npy --actors 3:2": "--actors 3:2: must be 1 <= least <= most",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(command, line, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "corrupt.npz").write_bytes(b"PK nonsense")
    (tmp_path / "words.txt").write_text("no images")
    np.savez(tmp_path / "tiny.npz", images=np.zeros((20, 3, 3), np.uint8))
    strange = json.dumps({"format": FORMAT, "recipe": {"type": "os.path"}})
    for name, text in (("broken", "{"), ("old", '{"format": 3}'), ("strange", strange)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.json").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = command(line)
    assert code == 2
    assert BAD[line] in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_more_than_the_cluster_has_is_one_line_and_nothing_is_written(command, ray_session, tmp_path):
    code, _, err = command("short_run digits --actors 2 --cpus-per-actor 50 --out run")
    assert code == 2
    assert err == (
        "error: 1 learners and 2 actors need 100.5 CPU (2 there); lower actors or cpus_per_actor, "
        "or set wait_for_resources\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_one_line(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command(f"short_run digits {SMALL} --out file/run")
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_relative_path_of_data_is_found_from_everywhere(command, tmp_path, monkeypatch):
    np.savez("some.npz", images=np.zeros((20, 8, 8), np.uint8))
    assert command(f"short_run digits {SMALL} --data some.npz --updates 2 --out run")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("../some.npz").touch()
    assert command("resume ../run --updates 3")[0] == 0


def test_a_device_that_is_not_there_is_refused(command):
    import torch

    if torch.cuda.is_available():
        pytest.skip("it is there")
    code, _, err = command(f"short_run digits {SMALL} --device cuda --updates 1 --out run")
    assert (code, err) == (2, "error: --device cuda: this machine has no GPU that torch can use\n")
    assert not Path("run").exists()


@pytest.mark.parametrize("preset", ["digits", "eight-gaussians"])
def test_a_run_leaves_the_files_that_the_documentation_lists(command, preset):
    code, out, err = command(f"short_run {preset} {SMALL} --updates 4 --checkpoint-every 2 --log-every 1 --out run")
    assert code == 0, err
    folder = Path("run")
    assert {"job.json", "metrics.jsonl", "result.json", "checkpoints"} <= {p.name for p in folder.iterdir()}
    assert list(folder.glob("events.out.tfevents.*"))
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4
    result = json.loads((folder / "result.json").read_text())
    assert result["weights_sha256"] in out
    settings = json.loads((folder / "job.json").read_text())
    assert settings["recipe"]["langevin"]["steps"] == 3
    assert settings["provenance"]["torch"]


def test_two_dimensions_end_in_divergences_and_a_figure(command):
    code, out, err = command(
        f"short_run eight-gaussians {SMALL.replace('--eval-samples 0', '--eval-samples 200')} --updates 2 --out run"
    )
    assert code == 0, err
    metrics = json.loads(Path("run/result.json").read_text())["metrics"]
    assert metrics["grid_kl"]["value"] > 0
    assert metrics["kl"]["value"] > 0
    assert Path("run/figures/densities.png").stat().st_size > 5000
    assert "run/figures/densities.png" in out


def test_a_run_and_its_resumption_are_the_whole_run(command, a_run):
    code, _, err = command(f"short_run digits {SMALL} --updates 4 --out whole")
    assert code == 0, err
    code, _, err = command(f"resume {a_run} --updates 4")
    assert code == 0
    assert "from update 2 to 4" in err
    shas = {json.loads(Path(run, "result.json").read_text())["weights_sha256"] for run in (a_run, "whole")}
    assert len(shas) == 1
    assert json.loads(Path(a_run, "job.json").read_text())["updates"] == 4


def test_resume_reports_the_checkpoints_that_it_ignores(command, a_run):
    (Path(a_run) / "checkpoints/update-00000002/manifest.json").unlink()
    code, _, err = command(f"resume {a_run} --updates 3")
    assert code == 0
    assert "ignoring incomplete checkpoints: update-00000002" in err
    assert "warning: there is no checkpoint, so the run starts from the beginning" in err


def test_a_run_warns_of_samples_that_are_further_from_the_data_than_noise(command):
    flags = SMALL.replace("--eval-samples 0", "--eval-samples 50").replace("--steps 3", "--steps 20")
    code, _, err = command(f"short_run digits {flags} --updates 20 --drift 100 --patience 0 --out run")
    assert code == 0
    assert "warning: the samples are further from the data than the noise they start from" in err


def test_resume_refuses_fewer_updates_than_the_run_has_made(command, a_run):
    assert command(f"resume {a_run} --updates 1")[::2] == (2, "error: --updates 1: the run has made 2 already\n")


def test_resume_refuses_a_checkpoint_of_another_recipe(command, a_run):
    path = Path(a_run, "job.json")
    settings = json.loads(path.read_text())
    settings["recipe"]["width"] = 8
    path.write_text(json.dumps(settings))
    code, _, err = command(f"resume {a_run} --updates 4")
    assert code == 2
    assert "belongs to another run: its recipe width is 4, not 8" in err
    assert json.loads(path.read_text())["updates"] == 2
    assert command(f"sample {a_run} --out a.npy")[0] == 2
    assert err.count("error:") == 1


OWN_RECIPE = """
from dataclasses import dataclass
from pipeline.recipes.short_run import ShortRun

@dataclass(frozen=True)
class Own(ShortRun):
    pass
"""


@pytest.mark.slow
def test_a_recipe_outside_the_package_is_opened_only_by_its_module(command, capsys, tmp_path, monkeypatch):
    Path("own_recipe.py").write_text(OWN_RECIPE)
    monkeypatch.syspath_prepend(tmp_path)
    own, data = import_module("own_recipe").Own(Langevin(3, 1.0, 0.01), batch_size=8, width=4), DataSettings("digits")
    start_run(override(Job(own, data, 2, "own", out="run"), learners=0, actors=0, eval_samples=0))
    capsys.readouterr()
    out = {"sample": "--out a.npy", "resume": "--updates 3"}
    for line in [f"{name} run {out.get(name, '')}" for name in ("sample", "reconstruct", "interpolate", "resume")]:
        monkeypatch.delitem(sys.modules, "own_recipe")
        why = "--recipe-module own_recipe: the run's recipe is in this module: name it, if you trust it"
        assert command(line)[::2] == (2, f"error: {why}\n")
        assert "own_recipe" not in sys.modules
        code, _, err = command(f"{line} --recipe-module own_recipe")
        assert code == 0, err


def test_samples_are_the_runs_own_in_both_formats(command, a_run):
    for name in ("a.npy", "a.parquet"):
        code, out, err = command(f"sample {a_run} --n 130 --seed 3 --out {name}")
        assert code == 0, err
        assert f"130 in {name}" in out
    x = np.load("a.npy")
    assert x.shape == (130, 1, 8, 8)
    assert x.dtype == np.float32
    table = pq.read_table("a.parquet")
    image = Image.open(io.BytesIO(table["image"][7].as_py()["bytes"]))
    expected = np.round((x[7, 0].clip(-1, 1) + 1) * 127.5)
    assert np.array_equal(np.asarray(image), expected.astype(np.uint8))
    assert load_data("a.parquet").spec.shape == (1, 8, 8)
    code, _, err = command(f"sample {a_run} --n 5 --out a.npy")
    assert (code, err) == (2, "error: --out a.npy: exists\n")


def test_a_diverging_run_is_one_line_and_exit_code_1(command):
    code, _, err = command(f"short_run digits {SMALL} --updates 5 --lr 1e30 --out run")
    assert code == 1
    last = err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("error: diverged: chain states not finite at update 1")
    assert "Traceback" not in err
    result = json.loads(Path("run/result.json").read_text())
    assert last == f"error: {result['diverged']['reason']}"
    assert "metrics" not in result


def test_a_run_on_text_has_perplexities_likelihood_and_sentences(command, tmp_path):
    flags = (
        "--learners 0 --actors 0 --updates 2 --eval-samples 60 --latent-dim 3 --batch-size 8 --width 8 --prior-steps 2"
    )
    code, out, err = command(f"latent_prior snli --data {sentences_in(tmp_path)} {flags} --out run")
    assert code == 0, err
    metrics = json.loads(Path("run/result.json").read_text())["metrics"]
    names = {"fppl", "fppl_start", "fppl_floor", "rppl", "rppl_start", "energy", "energy_prior", "nll_nats_per_word"}
    assert set(metrics) == names | {"nll_nats", "nll_nats_error", "nll_nats_ess"}
    words = json.loads(Path("run/data.json").read_text())["words"]
    sentences = Path("run/samples/final.txt").read_text().splitlines()
    assert len(sentences) == 60
    assert {word for sentence in sentences for word in sentence.split()} <= set(words[2:])
    assert "run/samples/final.txt" in out
    for name in ("a.parquet", "a.npy"):
        assert command(f"sample run --n 60 --out {name}")[0] == 0
    sampled = pq.read_table("a.parquet")["text"].to_pylist()
    assert len(sampled) == 60
    assert {word for sentence in sampled for word in sentence.split()} <= set(words[2:])
    assert np.load("a.npy").dtype == np.int64
    assert load_data("a.parquet").spec.kind == "text"


def test_text_is_refused_by_recipes_that_do_not_learn_from_it(command, tmp_path):
    text = sentences_in(tmp_path)
    recipes = {"short_run": "ShortRun", "joint_vae": "JointVAE", "short_run_inference": "ShortRunInference"}
    for job, name in recipes.items():
        code, _, err = command(f"{job} digits --data {text} --learners 0 --actors 0")
        expected = f"error: --data: {name} does not learn from text, only from counts, image, vector\n"
        assert (code, err) == (2, expected)
    assert command("latent_prior snli")[2].startswith("error: --data snli.parquet: neither a data set")
