"""A search without Ray: its trials and confirmation run in this process, one after the other."""

from dataclasses import replace

from running import CPU, local_pool

from jobs import search
from jobs.cli import search_report
from jobs.cli.experiment import load_experiment
from jobs.cli.search_args import Search
from pipeline.distributed.tune import suggested_recipe
from pipeline.runs.job import load_dataset
from pipeline.runs.storage import Storage
from pipeline.search.objectives import OBJECTIVES
from pipeline.search.trials import RECORD, run_trial


def search_in_process(out, settings, seeds=(1, 2)):
    """A search of short_run on eight Gaussians in a folder: a trial per settings, and one more that diverged.

    The first trial is confirmed beside the preset; without `seeds` the search has not ended.
    """
    args = Search("short_run", preset="eight-gaussians", trials=len(settings) + 1, budget=4000, reports=2, samples=30)
    args = replace(args, confirm=1, seeds=max(1, len(seeds)), out=Storage.at(str(out)).uri)
    module = load_experiment("short_run")
    job = search._job(args, module)
    data = load_dataset(job)
    plan, place = search._plan(args, module, data), Storage.at(args.out)
    search._record(args, plan.job)
    for i, one in enumerate(settings):
        _run(plan, plan.trial_budget, suggested_recipe(plan, one), 0, place / "trials" / f"trial-{i}", one)
    report = {"updates": 1, "gradient_evaluations": 1000, "quality": float("inf"), "cpu_seconds": 0.1}
    record = {"settings": settings[0], "objective": "kl", "split": "validation"}
    reports = [{**report, "diverged": "diverged: loss not finite"}]
    (place / "trials" / "trial-x").write_json(RECORD, {**record, "reports": reports})
    (place / "trials" / "trial-x").write_json("job.json", (place / "trials" / "trial-0").read_json("job.json"))
    if not seeds:
        return
    jobs = {"preset": plan.job, "best-1": replace(plan.job, recipe=suggested_recipe(plan, settings[0]))}
    budget = replace(plan.trial_budget, report_count=1, split="test")
    for name, one in jobs.items():
        for seed in seeds:
            run = search_report.confirm_name(name, seed)
            _run(plan, budget, one.recipe, seed, place / "confirm" / run, {"name": run})
    preset = search._preset(args, module)
    search_report.conclude(plan, preset, OBJECTIVES["kl"], jobs, seeds)


def _run(plan, budget, recipe, seed, place, settings):
    job = replace(plan.job, recipe=recipe, seed=seed, out=place.uri)
    list(run_trial(job, budget, settings, CPU, lambda: local_pool(job)))
