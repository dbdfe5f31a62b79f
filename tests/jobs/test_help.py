"""The help of every command, and how fast and how quietly commands end."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import jobs
from jobs.cli.experiment import load_experiment, named_presets

REPOSITORY = Path(jobs.__file__).parents[1]
SLOW_IMPORTS = ("arviz", "matplotlib", "optuna", "pandas", "ray", "scipy", "sklearn", "tensorboard")
SLOW_IMPORTS += ("torch_fidelity", "torchvision", "zuko", "pyarrow.dataset", "torch._dynamo")


def test_every_command_is_listed_once_with_a_line():
    modules = {
        ".".join(path.relative_to(REPOSITORY / "jobs").with_suffix("").parts)
        for folder in ("", "studies")
        for path in (REPOSITORY / "jobs" / folder).glob("*.py")
        if '__name__ == "__main__"' in path.read_text() and path.name != "__main__.py"
    }
    assert not jobs.EXPERIMENTS.keys() & jobs.COMMANDS.keys()
    assert modules == jobs.EXPERIMENTS.keys() | jobs.COMMANDS.keys()
    assert all(0 < len(line) <= 90 and "\n" not in line for line in {**jobs.EXPERIMENTS, **jobs.COMMANDS}.values())


@pytest.mark.parametrize("line", ["", "--help"])
def test_without_a_name_the_commands_are_listed(command, line):
    code, out, err = command(line)
    assert (code, err) == (0, "")
    for name, about in {**jobs.EXPERIMENTS, **jobs.COMMANDS}.items():
        assert re.search(rf"^  {re.escape(name)} +{re.escape(about)}$", out, re.MULTILINE)


@pytest.mark.parametrize("name", [*jobs.EXPERIMENTS, *jobs.COMMANDS])
def test_help_explains_every_flag(command, capsys, monkeypatch, name):
    code, out, err = command(f"{name.replace('_', '-')} --help")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    starts = [i for i, line in enumerate(lines) if re.match("  --[a-z]", line)]
    assert len(starts) >= 2
    for begin in starts:
        explained = [lines[begin].strip()]
        for line in lines[begin + 1 :]:
            if not line.startswith("     "):
                break
            explained.append(line.strip())
        words = " ".join(explained).split("(default")[0].split("(required")[0].split()
        assert len(words) > 3, words
    assert all(len(line) <= 120 for line in lines)
    monkeypatch.setattr(sys, "argv", ["x", "--help"])
    monkeypatch.delitem(sys.modules, f"jobs.{name}")  # or runpy warns
    with pytest.raises(SystemExit):
        runpy.run_module(f"jobs.{name}", run_name="__main__", alter_sys=True)
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("name", jobs.EXPERIMENTS)
def test_the_help_of_an_experiment_begins_with_its_presets_and_ends_with_its_claims(command, name):
    module = load_experiment(name)
    *_, last = module.PRESETS
    _, out, _ = command(f"{name} {last.replace('-', '_')} --help")
    about, _, rest = out.partition("\n\nPresets, with CPU minutes as measured:\n")
    presets, _, flags = rest.partition("\n\n")
    assert len(about.splitlines()) + len(presets.splitlines()) < 40
    assert " ".join(module.__doc__.split()) in " ".join(about.split())
    for preset, row in zip(module.PRESETS, presets.splitlines(), strict=True):
        cost = f"{module.COSTS[preset]:.2g}" if preset in module.COSTS else "not measured"
        assert row.split("  <-")[0].split(maxsplit=1) == [preset, cost]
        assert ("<-" in row) == (preset == last)
    assert "--name STR" in flags
    assert f"(default: {name}-{last})" in " ".join(flags.split())
    assert " ".join(out.split()).endswith(" ".join(module.CLAIMS.split()))


@pytest.mark.parametrize("name", jobs.EXPERIMENTS)
def test_presets_are_named_after_module_and_preset(name):
    module = load_experiment(name.replace("_", "-"))
    assert all(not job.name for job in module.PRESETS.values())
    assert {preset: job.name for preset, job in named_presets(module).items()} == {
        preset: f"{name}-{preset}" for preset in module.PRESETS
    }
    assert module.COSTS.keys() <= module.PRESETS.keys()
    assert hasattr(module, "space") == hasattr(module, "OBJECTIVE")


def test_flags_of_a_run_are_flat_and_in_groups(command):
    out = command("short_run --help")[1]
    common = "updates batch-size lanes learners actors lag seed threads data out checkpoint-every log-every steps drift"
    assert all(f"  --{flag} " in out for flag in common.split())
    titles = [line for line in out.splitlines() if re.fullmatch(r"[A-Z][a-z]+(, [a-z]+)?", line)]
    groups = ["Data", "Resources", "Divergence", "Logging", "Evaluation"]
    assert titles == ["Options", "Recipe", "Recipe, langevin", *groups]


def test_the_installed_command_is_the_list_of_all():
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["ebm"].partition(":")
    assert callable(getattr(import_module(module), function))


def test_help_a_typo_and_a_refused_setting_import_nothing_slow():
    lines = [f"{name} --help" for name in (*jobs.EXPERIMENTS, *jobs.COMMANDS)]
    lines += ["", "short_run digits --batchsize 3", "short_run digits --batch-size 0", "search short-run --preset x"]
    program = f"""
import sys
from jobs.__main__ import dispatch
from jobs.cli.command import run_command
for line in {lines}:
    try:
        run_command(dispatch, line.split())
    except SystemExit as e:
        assert e.code in (None, 0, 2)
print([name for name in {SLOW_IMPORTS} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_closed_pipe_ends_a_command_quietly():
    command = [
        sys.executable,
        "-c",
        "import jobs.__main__ as m, sys; sys.argv = ['ebm', 'anatomy', '--help']; m.main()",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
