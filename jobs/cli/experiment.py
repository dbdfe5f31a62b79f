"""The command line of an experiment: its presets, its help, and the job that the flags describe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import tyro

from jobs import EXPERIMENTS
from jobs.cli.command import find_name, run_command
from jobs.cli.parsing import parse
from pipeline.runs.job import Job, check_job

RESUME_IF_EXISTS = (
    "Continue what is in --out where that exists, with the same settings; say so where it has finished. So one command "
    "begins or goes on."
)


def experiment(name: str) -> None:
    """The command `python -m jobs.<name> [PRESET] [FLAGS]`."""
    run_command(partial(run_experiment, name))


def run_experiment(name: str, args: Sequence[str]) -> None:
    """Run the preset that the first argument names (default: the first one), with the settings that flags change.

    Raises:
        InputError: there is no such preset, or settings do not fit.
    """
    module = load_experiment(name)
    presets = named_presets(module)
    chosen, flags = next(iter(presets)), list(args)
    if flags and not flags[0].startswith("-"):
        chosen = find_name(flags.pop(0), presets, "preset")
    kind = _start_args(type(presets[chosen].recipe))
    prog, claims = f"python -m jobs.{name} {chosen}", f"Measured:\n{module.CLAIMS}"
    start: Any = parse(kind, flags, prog, _description(module, chosen), kind(presets[chosen]), claims)
    check_job(start.job)
    from jobs.cli.launch import start_run  # here: refusing flags and showing help do not need the rest

    start_run(start.job, start.resume_if_exists)


def _start_args(recipe: type) -> Any:
    """The dataclass whose fields are the flags: a job of the recipe, and what to do where its folder exists."""

    @dataclass(frozen=True)
    class StartArgs:
        job: Annotated[Job[recipe], tyro.conf.arg(name="")]  # type: ignore[valid-type]
        resume_if_exists: Annotated[bool, tyro.conf.arg(help=RESUME_IF_EXISTS)] = False

    return StartArgs


def load_experiment(name: str) -> ModuleType:
    """The module of an experiment, named with - or _. Raises InputError where there is none."""
    return import_module(f"jobs.{find_name(name, EXPERIMENTS, 'experiment')}")


def named_presets(module: ModuleType) -> dict[str, Job[Any]]:
    """The presets of an experiment's module; each job is named <module>-<preset>."""
    short = module.__name__.rpartition(".")[2]
    presets: Mapping[str, Job[Any]] = module.PRESETS
    return {preset: replace(job, name=f"{short}-{preset}") for preset, job in presets.items()}


def _description(module: ModuleType, chosen: str) -> str:
    """What the experiment is, and its presets with what each costs."""
    width = max(map(len, module.PRESETS))
    lines = ["Presets, with CPU minutes as measured:"]
    for preset in module.PRESETS:
        cost = f"{module.COSTS[preset]:.2g}" if preset in module.COSTS else "not measured"
        mark = "  <- the flags below show its settings" if preset == chosen else ""
        lines.append(f"  {preset:{width}}  {cost:>12}{mark}")
    return f"{module.__doc__}\n" + "\n".join(lines)
