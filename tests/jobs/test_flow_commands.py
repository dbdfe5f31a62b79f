"""A flow, and the experiments that start with one, as a user types them."""

import json
from pathlib import Path

import pytest

FLAGS = "eight-gaussians --learners 0 --actors 0 --couplings 2 --hidden 4 --batch-size 8 --updates 2 --log-every 1"
TINY = f"{FLAGS} --width 4"


@pytest.fixture
def a_flow(train):
    return train(f"flow {FLAGS} --eval-samples 0", "flow")


def result(folder):
    return json.loads((Path(folder) / "result.json").read_text())


def test_neural_transport_without_a_flow_is_one_line_and_nothing_is_written(command, tmp_path):
    code, out, err = command("neural_transport eight-gaussians")
    assert (code, out) == (2, "")
    assert err == ("error: --init-from '': NeuralTransport needs a trained flow: name a run of jobs.flow\n")
    assert not list(tmp_path.iterdir())


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
        code, _, err = command(f"flow_contrastive {TINY} --eval-samples 20 {init_from} --out {out}")
        assert code == 0, err
        metrics = result(out)["metrics"]
        assert {"grid_kl", "flow_grid_kl", "log_z_grid"} <= set(metrics)
        assert result(out)["gradient_evaluations"] == 0
