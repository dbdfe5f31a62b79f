"""A run that begins with another's networks."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from running import CPU, local_pool, newest, run
from small_recipes import CONTRASTIVE, COUPLINGS, FLOW, TRANSPORT

from pipeline.errors import InputError
from pipeline.nets.weights import flatten
from pipeline.recipe import init_networks
from pipeline.runs import checkpoint
from pipeline.runs.job import load_dataset, override
from pipeline.runs.snapshot import newest_snapshot as opened
from pipeline.samplers.hmc import HMC
from pipeline.sampling.long_chains import can_start_from_data, has_start, start_tasks
from pipeline.training.pretrained import load_pretrained, resolve_checkpoint
from pipeline.training.worker import Worker

LEARNED = replace(FLOW, flow=COUPLINGS, lr=0.1, warmup_updates=1)
RECIPES = {
    "neural_transport": replace(TRANSPORT, flow=COUPLINGS),
    "flow_contrastive": replace(CONTRASTIVE, flow=COUPLINGS),
}


@pytest.fixture
def origin(small, tmp_path):
    """A run of a flow."""
    job = override(small, recipe=LEARNED, source="eight-gaussians", updates=4, out=str(tmp_path / "origin"))
    run(job)
    return job


def heir(origin, recipe, **others):
    out = str(Path(origin.out).parent / "heir")
    return replace(origin, recipe=recipe, init_from=resolve_checkpoint(origin.out), out=out, **others)


def flow_at(place):
    return checkpoint.read_part(place, "learner")["networks"]["flow"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_is_known_by_its_newest_checkpoint_or_by_a_checkpoint(origin):
    place = newest(origin).path
    assert resolve_checkpoint(origin.out) == place
    assert resolve_checkpoint(place) == place


@pytest.mark.parametrize("name", RECIPES)
def test_it_begins_with_the_weights_of_the_other(origin, name):
    job = heir(origin, RECIPES[name])
    one = Worker(job, load_dataset(job), CPU, local_pool(job))
    assert one.restore() == 0
    assert same(dict(one.learner.nets["flow"].state_dict()), flow_at(newest(origin)))
    fresh = init_networks(job.recipe, one.data.spec, job.seed, CPU)
    assert (
        flatten({"": one.learner.nets["energy"]}) != flatten({"": fresh["energy"]})
    ).sum() <= 1  # the constant alone


def test_without_networks_it_begins_with_its_own(origin):
    job = replace(heir(origin, RECIPES["neural_transport"]), init_from="")
    nets = init_networks(job.recipe, load_dataset(job).spec, job.seed, CPU)
    before = flatten(nets)
    assert load_pretrained(job, nets) == frozenset()
    assert (flatten(nets) == before).all()


def test_the_origin_may_go_once_there_is_a_checkpoint(origin, tmp_path):
    job = heir(origin, RECIPES["neural_transport"])
    of_origin, whole = flow_at(newest(origin)), run(job)
    half = replace(job, out=str(tmp_path / "half"))
    run(replace(half, updates=2))
    shutil.rmtree(origin.out)
    assert run(half)["weights_sha256"] == whole["weights_sha256"]
    assert same(flow_at(newest(half)), of_origin)


def test_an_origin_that_has_gone_before_is_missed(origin):
    job = heir(origin, RECIPES["neural_transport"])
    shutil.rmtree(origin.out)
    with pytest.raises(InputError, match=r"init_from=.*origin.*: not a whole checkpoint \(any more\)"):
        load_pretrained(job, init_networks(job.recipe, load_dataset(job).spec, 0, CPU))
    with pytest.raises(InputError, match=r"init_from=.*origin: neither a run with a checkpoint nor a checkpoint"):
        resolve_checkpoint(origin.out)


@pytest.mark.parametrize(
    ("others", "complaint"),
    [
        ({"hidden": 5}, "'hidden': 4.*not .*'hidden': 5"),
        ({"family": "spline"}, "'family': 'affine'.*'family': 'spline'"),
    ],
)
def test_settings_that_differ_are_said(origin, others, complaint):
    recipe = replace(RECIPES["neural_transport"], flow=replace(COUPLINGS, **others))
    job = heir(origin, recipe)
    with pytest.raises(InputError, match=f"its flow does not fit: it is .*{complaint}") as told:
        load_pretrained(job, init_networks(recipe, load_dataset(job).spec, 0, CPU))
    assert "\n" not in str(told.value)


def test_data_of_another_shape_are_said_in_a_line(origin):
    recipe = replace(TRANSPORT, flow=FLOW.flow)
    job = override(heir(origin, recipe), source="digits")
    with pytest.raises(InputError, match="its flow does not fit") as told:
        load_pretrained(job, init_networks(recipe, load_dataset(job).spec, 0, CPU))
    assert "\n" not in str(told.value)


def test_networks_of_no_common_name_are_said(origin, small):
    job = replace(small, init_from=resolve_checkpoint(origin.out))
    with pytest.raises(InputError, match="it has flow, not energy"):
        load_pretrained(job, init_networks(job.recipe, load_dataset(job).spec, 0, CPU))


def test_its_model_has_a_kernel_that_is_no_langevin_dynamics_and_states_that_stand_for_data(origin):
    job = heir(origin, RECIPES["neural_transport"])
    run(job)
    model = opened(job, CPU)
    assert model.sampler == HMC(2, 2, job.recipe.step_size)
    with pytest.raises(InputError, match="not Langevin dynamics"):
        _ = model.langevin
    assert can_start_from_data(model)
    assert has_start(model, "data")
    tasks = start_tasks(model, "data", 6, 0)
    x = torch.cat([model.nets["flow"](torch.from_numpy(task.x)) for task in tasks])
    assert ((x[:, None] - model.data.batch(np.arange(model.data.size))["x"]).abs().amax(2).amin(1) < 1e-3).all()
