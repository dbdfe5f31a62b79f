"""cluster/slurm/ebm.sbatch on a Slurm of a controller and two nodes: runs end at the weights of one process."""

import json
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from slurm_site import REPOSITORY, missing, slurm_site

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"a Slurm site needs {missing()}")

JOB = "short_run digits --batch-size 16 --width 4 --lanes 2 --eval-samples 0 --checkpoint-every 5 --log-every 1"
ONE_NODE = "--learners 0 --actors 1 --cpus-per-actor .5"
TWO_NODES = "--learners 2 --actors 2 --cpus-per-learner 1 --cpus-per-actor .5"
LONG = f"{JOB} --steps 20 --updates 100"
CALM = {"RAY_worker_niceness": "0"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with slurm_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def sha(tmp_path_factory):
    """The weights' hash of a command, run in one process."""
    known = {}

    def of(command):
        if command not in known:
            out = str(tmp_path_factory.mktemp("plain") / "run")
            flags = f"{command} --learners 0 --actors 0 --out {out}"
            subprocess.run(
                [sys.executable, "-m", "jobs", *flags.split()], cwd=REPOSITORY, check=True, capture_output=True
            )
            known[command] = result(out)["weights_sha256"]
        return known[command]

    return of


def result(out):
    return json.loads(Path(out, "result.json").read_text())


def updates(out):
    """How many updates a run has logged."""
    file = Path(out, "metrics.jsonl")
    return len(file.read_text().splitlines()) if file.exists() else 0


def has_ended(site, job):
    return lambda: site.state(job) not in ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED")


def complete(site, job, seconds=900):
    """Wait until a job has ended well. A requeued one starts at once, not two minutes later, as Slurm would."""

    def ended():
        if site.state(job) == "PENDING":
            with suppress(AssertionError):  # it may have begun meanwhile
                site.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        return has_ended(site, job)()

    site.wait_for(ended, seconds, job)
    assert site.state(job) == "COMPLETED", site.log(job)


def restarts(site, job):
    return len(re.findall("start, after", site.log(job))) - 1


def test_learners_and_actors_on_two_nodes_end_at_the_weights_of_one_process(site, sha, tmp_path):
    command = f"{JOB} --steps 5 --updates 20"
    job = site.submit("--nodes=2 --cpus-per-task=2 --time=30", f"{command} {TWO_NODES} --out {tmp_path}/run", **CALM)
    complete(site, job)
    log = site.log(job)
    assert "2 of 2 nodes are there" in log
    minutes = float(re.search(r"([\d.]+) minutes for the run", log)[1])
    assert 15 < minutes < 26  # what is left of 30, less four to spare
    assert restarts(site, job) == 0
    assert result(tmp_path / "run")["weights_sha256"] == sha(command)


def test_a_preempted_job_writes_a_checkpoint_and_goes_on(site, sha, tmp_path):
    out = tmp_path / "run"
    job = site.submit("--nodes=2 --cpus-per-task=2 --time=30", f"{LONG} --learners 0 --actors 2 --out {out}", **CALM)
    site.wait_for(lambda: updates(out) > 5, 300, job)
    urgent = site.run("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 1")
    site.wait_for(lambda: site.state(job) == "PENDING" and has_ended(site, urgent)(), 180, job)
    log = site.log(job)
    assert re.search(r"stopped by SIGTERM, at update (\d+) of 100; to go on: ", log), log
    assert "the run has ended with code 143" in log
    assert not (out / "result.json").exists()
    complete(site, job)
    assert restarts(site, job) == 1
    assert result(out)["weights_sha256"] == sha(LONG)


def test_a_chain_of_jobs_over_a_limit_of_time_ends_at_the_weights_of_one_run(site, sha, tmp_path):
    command = f"{JOB} --steps 5 --updates 3"
    flags = f"{command} {ONE_NODE} --out {tmp_path}/run"
    job = site.submit("--nodes=1 --cpus-per-task=2 --time=30", flags, EBM_SPARE_MINUTES="60", **CALM)
    complete(site, job)
    assert "stopped: the time is up, at update 1 of 3; to go on: " in site.log(job)
    assert restarts(site, job) >= 2  # each job has time for one update
    assert result(tmp_path / "run")["weights_sha256"] == sha(command)


def test_tasks_of_an_array_are_seeds(site, sha, tmp_path):
    command = f"{JOB} --steps 5 --updates 10 --seed"
    flags = f"{command} %a {ONE_NODE} --out {tmp_path}/seed-%a"
    site.submit("--array=4-5 --nodes=1 --cpus-per-task=2 --time=30", flags, **CALM)
    for task in site.run("squeue", "--noheader", "--array", "--format=%i").split():
        complete(site, task)
    logs = [log for path in site.folder.glob("ebm-*.out") if str(tmp_path) in (log := path.read_text())]
    minutes = [float(found) for log in logs for found in re.findall(r"([\d.]+) minutes for the run", log)]
    assert len(logs) == 2
    assert min(minutes) > 15  # of its own, though the first task has the number of the array
    for seed in (4, 5):
        assert result(tmp_path / f"seed-{seed}")["weights_sha256"] == sha(f"{command} {seed}")


@pytest.mark.parametrize(
    ("flags", "line"),
    [("", "error: --out names no folder that every node sees"), ("--lr -1 --out x", "error: --lr -1.0: ")],
)
def test_what_cannot_run_is_not_requeued(site, flags, line):
    job = site.submit("--nodes=1 --cpus-per-task=2 --time=30", f"{JOB} {ONE_NODE} {flags}", **CALM)
    site.wait_for(has_ended(site, job), 300, job)
    assert site.state(job) == "FAILED"
    assert "ExitCode=2:0" in site.run("scontrol", "show", "job", job)
    assert line in site.log(job)
    assert restarts(site, job) <= 0


def test_without_the_user_signal_ray_goes_first_and_the_job_goes_on(sha, tmp_path):
    out = tmp_path / "run"
    with slurm_site(tmp_path / "site", parameters="", grace=30) as site:
        job = site.submit("--nodes=1 --cpus-per-task=2 --time=0", f"{LONG} {ONE_NODE} --out {out}", **CALM)
        site.wait_for(lambda: updates(out) > 5, 300, job)
        site.run("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 1")
        site.wait_for(lambda: site.state(job) == "PENDING", 180, job)
        assert "; 0 minutes for the run" in site.log(job)  # the job has no limit
        assert "error: Ray has gone away, at update " in site.log(job)
        assert "stopped by SIGTERM" not in site.log(job)
        complete(site, job)
    assert result(out)["weights_sha256"] == sha(LONG)
