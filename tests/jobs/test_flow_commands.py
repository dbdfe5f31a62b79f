"""A flow, and the experiments that start with one, as a user types them."""

import json
from pathlib import Path

import pytest

from pipeline.recipes.flow import MaximumLikelihoodFlow

FLAGS = "eight-gaussians --learners 0 --actors 0 --couplings 2 --hidden 4 --batch-size 8 --updates 2 --log-every 1"
TINY = f"{FLAGS} --width 4"


@pytest.fixture
def a_flow(train):
    return train(f"flow {FLAGS} --eval-samples 0", "flow")


def result(folder):
    return json.loads((Path(folder) / "result.json").read_text())


def weights(folder):
    return result(folder)["weights_sha256"]


def test_neural_transport_with_an_untrained_flow_is_one_line_and_nothing_is_written(command, tmp_path):
    code, out, err = command("neural_transport eight-gaussians --flow-updates 0")
    assert (code, out) == (2, "")
    assert err == ("error: --init-from '': NeuralTransport needs a trained flow: name a run of jobs.flow\n")
    assert command("neural_transport eight-gaussians --flow-updates -1")[2].startswith("error: --flow-updates -1: ")
    assert command("neural_transport eight-gaussians --flow-updates x")[2].startswith("error: --flow-updates: ")
    assert command("short_run digits --flow-updates 3")[0] == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("experiment", ["flow_contrastive", pytest.param("neural_transport", marks=pytest.mark.slow)])
def test_two_stages_in_one_command_are_those_of_two_commands(command, experiment):
    settings = "eight-gaussians --learners 0 --actors 0 --couplings 2 --hidden 4 --seed 2 --eval-samples 0"
    chains = "--width 4 --batch-size 8 --updates 2" + (" --steps 2" if experiment == "neural_transport" else "")
    assert command(f"{experiment} {settings} {chains} --flow-updates 3 --out one")[0] == 0
    assert command(f"flow {settings} --updates 3 --out flow")[0] == 0
    assert command(f"{experiment} {settings} {chains} --init-from flow --out two")[0] == 0
    assert weights("one/flow") == weights("flow")
    assert weights("one") == weights("two")


def test_a_killed_first_stage_goes_on_and_the_second_follows(command, monkeypatch):
    line = f"neural_transport {TINY} --steps 2 --eval-samples 0 --flow-updates 3 --checkpoint-every 1"
    assert command(f"{line} --out whole")[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(MaximumLikelihoodFlow, "losses", killed_at_update(2))
        with pytest.raises(Killed):
            command(f"{line} --out killed")
    assert not Path("killed/flow/result.json").exists()
    assert not Path("killed/checkpoints").exists()
    code, _, err = command("resume killed")
    assert code == 0, err
    assert weights("killed") == weights("whole")
    assert command("resume killed --updates 3")[0] == 0
    assert command(f"{line} --updates 3 --out longer")[0] == 0
    assert weights("killed") == weights("longer")


def test_one_command_begins_and_goes_on_in_either_stage(command):
    line = f"neural_transport {TINY} --steps 2 --eval-samples 0 --flow-updates 3 --out run --resume-if-exists"
    assert command(line)[0] == 0
    before = weights("run")
    assert "has finished: 2 updates" in command(line)[1]
    for unfinished in ("run/result.json", "run/flow/result.json"):
        Path(unfinished).unlink()
    code, _, err = command(line)
    assert code == 0, err
    assert weights("run") == before
    assert command(f"{line} --updates 3")[0] == 2


class Killed(BaseException):
    """Ends a command anywhere, as a kill does."""


def killed_at_update(at):
    losses = MaximumLikelihoodFlow.losses

    def killed(self, nets, batch, chains, rng, update):
        if update == at:
            raise Killed
        return losses(self, nets, batch, chains, rng, update)

    return killed


@pytest.mark.parametrize(
    ("init_from", "others", "complaint"),
    [("nowhere", "", "neither a run with a checkpoint"), ("flow", "--hidden 5", "its flow does not fit")],
)
def test_a_flow_that_is_missing_or_another_is_one_line(command, a_flow, init_from, others, complaint):
    code, out, err = command(f"neural_transport {TINY} --steps 2 --init-from {init_from} --out run {others}")
    assert (code, out) == (2, "")
    assert err.startswith("error: --init-from ")
    assert complaint in err
    assert err.count("\n") == 1
    assert not Path("run").exists()


def test_a_flow_then_neural_transport_then_its_resumption(command, a_flow):
    flags = f"{TINY} --steps 2 --eval-samples 20 --init-from {a_flow}"
    code, _, err = command(f"neural_transport {flags} --out run")
    assert code == 0, err
    assert json.loads(Path("run/job.json").read_text())["init_from"] == str(
        Path("flow/checkpoints/update-00000002").resolve()
    )
    metrics = result("run")["metrics"]
    assert {"grid_kl", "flow_grid_kl", "log_z_grid", "kl_floor"} <= set(metrics)
    code, _, err = command("resume run --updates 4")
    assert code == 0, err
    code, _, err = command(f"neural_transport {flags} --updates 4 --out whole")
    assert code == 0, err
    assert result("run")["weights_sha256"] == result("whole")["weights_sha256"]
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {"log_z", "log_z_ess", "energy/gap"} <= set(lines[-1])


def test_flow_contrastive_begins_with_a_flow_or_without(command, a_flow):
    for init_from in (f"--init-from {a_flow}", ""):
        out = "with" if init_from else "without"
        start = init_from or "--flow-updates 0"
        code, _, err = command(f"flow_contrastive {TINY} --eval-samples 20 {start} --out {out}")
        assert code == 0, err
        metrics = result(out)["metrics"]
        assert {"grid_kl", "flow_grid_kl", "log_z_grid"} <= set(metrics)
        assert result(out)["gradient_evaluations"] == 0
