"""The command line of an experiment: its presets, its help, and the job that the flags describe."""

from argparse import ArgumentError, ArgumentParser
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import tyro

from jobs import EXPERIMENTS
from jobs.cli.command import find_name, run_command
from jobs.cli.parsing import parse
from pipeline.errors import InputError
from pipeline.runs.job import Job, check_job
from pipeline.runs.storage import Storage

RESUME_IF_EXISTS = (
    "Continue what is in --out where that exists, with the same settings; say so where it has finished. So one command "
    "begins or goes on."
)


def experiment(name: str) -> None:
    """The command `python -m jobs.<name> [PRESET] [FLAGS]`."""
    run_command(partial(run_experiment, name))


def run_experiment(name: str, args: Sequence[str]) -> None:
    """Run the preset that the first argument names (default: the first one), with the settings that flags change.

    The presets are the experiment's or, with --preset-file, those of a file.

    Raises:
        InputError: there is no such preset, or settings do not fit.
    """
    module = load_experiment(name)
    file, flow_updates, flags = _split_flags(args, hasattr(module, "FIRST_STAGE"))
    presets = named_presets(module, read_presets(file, module)) if file else named_presets(module)
    chosen = next(iter(presets))
    if flags and not flags[0].startswith("-"):
        chosen = find_name(flags.pop(0), presets, "preset")
    kind = _start_args(type(presets[chosen].recipe))
    prog, claims = f"python -m jobs.{name} {chosen}", "" if file else f"Measured:\n{module.CLAIMS}"
    start: Any = parse(kind, flags, prog, _description(module, presets, chosen), kind(presets[chosen]), claims)
    check_job(start.job)
    from jobs.cli.first_stage import flow_preset  # here: refusing flags and showing help do not need the rest
    from jobs.cli.launch import start_run

    start_run(start.job, start.resume_if_exists, None if file else flow_preset(module, chosen, start.job, flow_updates))


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


def named_presets(module: ModuleType, presets: Mapping[str, Job[Any]] | None = None) -> dict[str, Job[Any]]:
    """Presets of an experiment, by default those of its module; each job is named <module>-<preset>."""
    short = module.__name__.rpartition(".")[2]
    own: Mapping[str, Job[Any]] = module.PRESETS
    return {preset: replace(job, name=f"{short}-{preset}") for preset, job in (presets or own).items()}


def read_presets(file: str, module: ModuleType) -> Mapping[str, Job[Any]]:
    """`PRESETS` of a Python file, local or remote, which is run; `jobs.search` writes such a file.

    Raises:
        InputError: it cannot be read or run, or has no presets of this experiment.
    """
    place, namespace = Storage.at(file), dict[str, Any]()
    try:
        exec(compile(place.parent.read(place.name), file, "exec"), namespace)
    except Exception as e:  # the file is a program of the user's
        why = " ".join(str(e).split())
        raise InputError(f"it cannot be read: {type(e).__name__}: {why}", "preset_file", file) from e
    presets, kinds = namespace.get("PRESETS"), {type(job.recipe) for job in module.PRESETS.values()}
    if not (isinstance(presets, dict) and presets and all(isinstance(job, Job) for job in presets.values())):
        raise InputError("it has no PRESETS, a dictionary of jobs", "preset_file", file)
    if others := {type(job.recipe) for job in presets.values()} - kinds:
        why = f"it has a {others.pop().__name__}, not a {' or '.join(sorted(kind.__name__ for kind in kinds))}"
        raise InputError(why, "preset_file", file)
    return presets


def _split_flags(args: Sequence[str], two_stages: bool) -> tuple[str, int | None, list[str]]:
    """The values of --preset-file ("": there is none) and of --flow-updates, and the other words."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset-file", default="")
    if two_stages:
        parser.add_argument("--flow-updates", type=int)
    try:
        known, others = parser.parse_known_args(list(args))
    except ArgumentError as e:
        raise InputError(f"{e.argument_name}: {e.message}") from e
    updates = getattr(known, "flow_updates", None)
    if updates is not None and updates < 0:
        raise InputError("must be 0 or more", "flow_updates", updates)
    return known.preset_file, updates, others


def _description(module: ModuleType, presets: Collection[str], chosen: str) -> str:
    """What the experiment is, its presets with what each costs, and the flags that are no settings of a job."""
    width = max(map(len, presets))
    lines = ["Presets, with CPU minutes as measured:"]
    for preset in presets:
        cost = f"{module.COSTS[preset]:.2g}" if preset in module.COSTS else "not measured"
        mark = "  <- the flags below show its settings" if preset == chosen else ""
        lines.append(f"  {preset:{width}}  {cost:>12}{mark}")
    lines += ["", "--preset-file FILE: the presets of a Python file instead, as jobs.search writes one."]
    if flow := getattr(module, "FIRST_STAGE", {}).get(chosen):
        stage = f"updates of the flow that is trained first, unless there is --init-from (default: {flow.updates})"
        lines += ["", f"--flow-updates INT: {stage}; 0: the run starts with an untrained flow."]
    return f"{module.__doc__}\n" + "\n".join(lines)
