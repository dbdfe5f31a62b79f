"""The commands of docs/gpu.md are accepted, fit the machines that the page names, and use all of their GPUs."""

import re
import shlex
from pathlib import Path

import pytest

from jobs.cli import launch
from jobs.cli.experiment import run_experiment
from pipeline.distributed.cluster import job_bundles, missing_resources

TEXT = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text()
MACHINE = {"CPU": 64.0, "GPU": 8.0}
COMMANDS = re.findall(r"^python -m jobs\.(\w+) (.*--precision .*)$", TEXT, re.MULTILINE)


@pytest.fixture
def job_of(monkeypatch):
    """The job that a command would start."""

    def parsed(experiment, flags):
        started = []
        monkeypatch.setattr(launch, "start_run", lambda job, *_: started.append(job))
        run_experiment(experiment, shlex.split(flags))
        return started[0]

    return parsed


def presets(learners):
    return [(name, flags.split()[0]) for name, flags in COMMANDS if flags.count(f"--learners {learners} ")]


def test_each_preset_has_a_command_for_one_gpu_for_eight_and_for_four_machines():
    one = [(name, flags.split()[0]) for name, flags in COMMANDS if "--learners" not in flags]
    assert one == presets(8) == presets(32)
    data = {preset.split("-")[0] for _, preset in one}
    assert data == {"cifar10", "celeba", "svhn", "flowers"}


@pytest.mark.parametrize(("experiment", "flags"), COMMANDS)
def test_a_command_is_accepted_and_uses_every_gpu(experiment, flags, job_of):
    job = job_of(experiment, flags)
    preset = job_of(experiment, flags.split()[0])
    machines = {0: 0, 8: 1, 32: 4}[job.resources.learners]
    assert not missing_resources(job_bundles(job), [MACHINE] * machines)
    assert sum(bundle.get("GPU", 0) for bundle in job_bundles(job)) == 8 * machines
    assert job.lanes == max(1, job.resources.learners)  # one lane a GPU: lanes of one process move one after the other
    items, usual = (one.updates * one.recipe.batch_size for one in (job, preset))
    assert 0.9 < items / usual < 1.1
