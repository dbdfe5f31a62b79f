"""One evaluation: the same name under the same protocol is the same number, whoever computes it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from running import CPU, local_pool, run, sentences_in
from small_recipes import LATENT, SYMBOL, with_recipe

from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.train import chain_actors
from pipeline.evaluation.comparison import comparisons, default_comparison, default_features
from pipeline.evaluation.convergence.evidence import CHAINS_PER_START, gather_evidence
from pipeline.evaluation.convergence.observer import Observer
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.judges import classifier
from pipeline.evaluation.metrics.few_labels import true_labels
from pipeline.evaluation.options import EvaluationOptions
from pipeline.evaluation.plan import default_groups
from pipeline.evaluation.protocol import EvaluationSetup, to_json
from pipeline.runs import lease
from pipeline.runs.job import load_dataset, override
from pipeline.runs.snapshot import newest_snapshot
from pipeline.runs.storage import Storage
from pipeline.sampling import long_chains

N, STEPS = 30, 10
"""Samples, and steps of long runs: two multiples of K."""
OPTIONS = EvaluationOptions(
    n=N, multiples=(1, 2), long_run_chains=6, chains=2, draws=4, warm_up=1, annealed=4, temperatures=3, items=3,
    item_chains=2,
)  # fmt: skip


def result(job):
    """`metrics` and `protocols` of result.json."""
    content = json.loads((Path(job.out) / "result.json").read_text())
    return {name: content[name] for name in ("metrics", "protocols")}


def evaluated(job, options=OPTIONS, groups=()):
    return evaluate(newest_snapshot(job, CPU), local_pool(job), groups, options)


@pytest.mark.parametrize("lanes", [1, 4])
def test_the_end_of_a_run_and_a_later_evaluation_agree(small, lanes):
    job = override(small, lanes=lanes, eval_samples=N, eval_long_run_steps=STEPS)
    run(job)
    snapshot = newest_snapshot(job, CPU)
    groups = default_groups(snapshot, STEPS)
    assert groups == ["samples", "long-run"]
    options = EvaluationOptions(n=N, starts=("data",), multiples=(STEPS / snapshot.sampler.steps,))
    assert result(job) == to_json(evaluate(snapshot, local_pool(job), groups, options).measurements)


@pytest.mark.slow
def test_actors_and_this_process_agree(small, ray_session):
    job = override(small, eval_samples=N, actors=2, cpus_per_actor=0.25)
    with chain_actors(job, load_dataset(job).spec) as handles:
        run(job, ActorPool(handles))
    assert result(job) == to_json(evaluated(job, EvaluationOptions(n=N), ["samples"]).measurements)


@pytest.mark.slow
def test_an_evaluation_of_all_groups_has_the_numbers_of_a_run(small):
    job = override(small, recipe=LATENT, eval_samples=N, test_share=0.2, held_out_class=4)
    run(job)
    final, later = result(job), to_json(evaluated(job).measurements)
    assert {"frechet", "frechet_start", "frechet_floor", "mse", "auprc"} <= final["metrics"].keys()
    assert {"log_likelihood_ais", "rhat_max", "frechet_noise_2K"} <= later["metrics"].keys()
    assert final["metrics"].items() <= later["metrics"].items()
    assert final["protocols"].items() <= later["protocols"].items()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["anatomy from data", "anatomy on points", "latent_prior on text", "flow_contrastive on points"]
)
def test_a_name_has_one_protocol(small, tmp_path, name):
    job = with_recipe(override(small, updates=2), name, sentences_in(tmp_path))
    if job.data.source == "digits":
        job = override(job, test_share=0.2, held_out_class=4)
    elif name.endswith("text"):
        job = override(job, test_share=0.2)
    run(job)
    measurements = evaluated(job).measurements
    names = [one.name for one in measurements]
    assert len(names) == len(set(names)) > 3
    content = to_json(measurements)
    assert {one["protocol"] for one in content["metrics"].values()} == content["protocols"].keys()


@pytest.mark.slow
def test_metrics_of_training_items_have_names_of_their_own(small):
    job = override(small, recipe=LATENT, updates=2, test_share=0.2, held_out_class=4)
    run(job)
    held_out = to_json(evaluated(job, groups=["items"]).measurements)["metrics"]
    learned = to_json(evaluated(job, replace(OPTIONS, split="data"), ["items"]).measurements)["metrics"]
    assert learned.keys() == {f"{name}_train" for name in held_out if not name.startswith("au")}
    assert {"auprc", "auprc_chance", "auroc", "mse"} <= held_out.keys()  # a held-out class is among held-out items only


@pytest.mark.slow
def test_long_runs_make_their_steps_in_stretches_and_depend_on_nothing_else(small, monkeypatch):
    monkeypatch.setattr(long_chains, "STRETCH", 3)
    job = override(small, eval_samples=N, eval_long_run_steps=7)
    pool, steps = local_pool(job), []
    monkeypatch.setattr(pool, "submit", counting(pool.submit, steps))
    metrics = run(job, pool)["metrics"]
    assert {f"frechet{of}" for of in ("", "_start", "_bank", "_floor", "_data", "_data_1.4K")} <= metrics.keys()
    long_run = [n for n in steps if n != job.recipe.langevin.steps]
    assert sum(long_run) == 7
    assert max(long_run) <= 3
    assert metrics == run(replace(job, out=f"{job.out}-again"))["metrics"]


def counting(submit, steps):
    def counted(update, tasks, *weights):
        steps.append(tasks[0].sampler.steps)
        submit(update, tasks, *weights)

    return counted


@pytest.mark.parametrize("items", [2, 3, 4, 19])
def test_few_images_are_evaluated_without_the_metrics_that_need_more(small, monkeypatch, items):
    monkeypatch.setattr(classifier, "TRAINING_ITEMS", 10 * classifier.BATCH_SIZE)
    job = override(small, max_items=items, eval_samples=N)
    run(job)
    metrics = result(job)["metrics"]
    assert np.isfinite([one["value"] for one in metrics.values()]).all()
    assert {"frechet", "frechet_start", "frechet_bank", "frechet_floor"} <= metrics.keys()
    assert not {"kernel_distance", "class_score"} & metrics.keys()


@pytest.mark.slow
def test_an_evaluation_gives_the_verdict_of_an_observer(small, monkeypatch):
    monkeypatch.setitem(CHAINS_PER_START, "image", 4)
    run(small)
    observer = Observer(small, 0, CPU, local_pool(small), lease.acquire(Storage.at(small.out)))
    row = observer.observe()
    observer.close()
    evaluation = evaluated(small, groups=["convergence"])
    content = json.loads(json.dumps(evaluation.more["convergence"]))  # keys become strings
    assert content == {k: v for k, v in row.items() if k not in ("seconds", "cpu_seconds")}
    assert evaluation.figures.keys() == {"convergence", "convergence_chains"}


@pytest.mark.slow
def test_the_accuracy_of_few_labels_stands_beside_methods_without_the_model(small):
    job = override(small, recipe=SYMBOL, updates=2, test_share=0.2, labels_per_class=2)
    run(job)
    metrics = {one.name: one for one in evaluated(job, groups=["items"]).measurements}
    labels = true_labels(load_dataset(job).test)
    assert metrics["accuracy_majority"].value == max((labels == k).float().mean() for k in range(10))
    assert metrics["accuracy_majority"].value < metrics["accuracy_label_spreading"].value <= 1
    all_labels = override(job, labels_per_class=0, out=f"{job.out}-all")
    run(all_labels)
    assert not {"accuracy_majority", "accuracy_label_spreading"} & {
        one.name for one in evaluated(all_labels, groups=["items"]).measurements
    }


def test_an_observer_compares_as_an_evaluation_does(small):
    run(small)
    snapshot, pool = newest_snapshot(small, CPU), local_pool(small)
    setup = EvaluationSetup(snapshot, pool, "data", snapshot.data, small.seed)
    comparison = comparisons(setup, default_features(snapshot.data, CPU), OPTIONS.reference)[0]
    calls = iter(range(12))
    settings = default_comparison(snapshot.data, CPU), 6, small.seed, lambda: next(calls, None) is None
    evidence, chains = gather_evidence(snapshot, pool, *settings)
    assert evidence.metric == comparison.name == "frechet"
    for start, trajectory in evidence.trajectories.items():
        assert trajectory.distance == {multiple: comparison.distance(x) for multiple, x in chains[start].items()}
    samples = torch.cat(list(chains["noise"].values()))
    assert comparison.distance(samples) == comparison.all(samples)["frechet"]
