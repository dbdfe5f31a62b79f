"""TensorBoard's files, read back: settings and final metrics, curves of what varies, energies of data and samples."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from running import run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from pipeline.runs.job import override


def board(job):
    """All events of a run's folder, those of the observers and trials apart."""
    events = EventAccumulator(job.out, {"scalars": 0, "histograms": 0, "tensors": 0})
    return events.Reload()


def curves(job):
    events = board(job)
    return {name: {e.step: e.value for e in events.Scalars(name)} for name in events.Tags()["scalars"]}


def hparams(job):
    """The settings in the HParams tab."""
    events, found = board(job), []
    for content in events.PluginTagToContent(metadata.PLUGIN_NAME).values():
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        if data.HasField("session_start_info"):
            found.append(data.session_start_info.hparams)
    assert len(found) == 1
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found[0].items()}


def rows(job):
    return [json.loads(line) for line in (Path(job.out) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def annealed(small):
    """A job whose learning rate falls, and whose final metrics are those of samples."""
    return override(small, recipe=replace(small.recipe, lr_decay=0.5), eval_samples=20)


def test_curves_are_of_what_varies_and_whole(annealed):
    run(annealed)
    drawn, logged = curves(annealed), rows(annealed)
    values = {name: {row["update"]: row[name] for row in logged} for name in logged[0] if name != "update"}
    varying = {name for name, one in values.items() if len(set(one.values())) > 1}
    assert {"lr/energy", "energy/gap", "time/update"} <= varying
    assert {"attempt", "chains/lag", "chains/temperature"} <= values.keys() - varying
    training = {name for name in drawn if name.partition("/")[0] not in ("final", "dynamics")}
    assert training == varying
    for name in varying:
        assert drawn[name] == pytest.approx(values[name])
    rates = list(drawn["lr/energy"].values())
    assert rates == pytest.approx([annealed.recipe.lr * 0.5**k for k in range(6)])


def test_a_resumed_run_has_the_curves_of_an_uninterrupted_one(annealed, tmp_path):
    whole = override(annealed, out=str(tmp_path / "whole"))
    run(whole)
    run(replace(annealed, updates=3))
    time.sleep(1)  # TensorBoard reads files by name: the second, then the number of the process's writer, 9 after 10
    run(annealed)
    one, other = ({k: v for k, v in curves(job).items() if not k.startswith("time/")} for job in (whole, annealed))
    assert one == other


def test_settings_and_final_metrics_are_in_the_tab_of_hparams(annealed):
    result = run(annealed)
    found = hparams(annealed)
    assert found["langevin/steps"] == annealed.recipe.langevin.steps
    assert (found["lr_decay"], found["seed"], found["updates"], found["source"]) == (0.5, 0, 6, "digits")
    assert (found["chains/lag"], found["attempt"]) == (0, 0)  # what is constant is no curve
    final = {name: values for name, values in curves(annealed).items() if name.startswith("final/")}
    assert final.keys() == {f"final/{name}" for name in result["metrics"]}
    for name, one in result["metrics"].items():
        assert final[f"final/{name}"] == {6: pytest.approx(one["value"])}


def test_energies_of_data_stand_beside_those_of_samples(small):
    run(small)
    events = board(small)
    data, samples = (events.Histograms(f"energies/{name}") for name in ("data", "samples"))
    assert [one.step for one in data] == [one.step for one in samples] == [1, 3, 5]
    counts = Counter(one.histogram_value.num for one in [*data, *samples])
    assert counts == {16: 6}
