"""From a command line to a run: what every job's command does."""

import contextlib
import dataclasses
import io
import itertools
import math
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
import tyro
from tqdm import tqdm

from pipeline import observer, owner
from pipeline.batch import Spec
from pipeline.chains import LocalPool
from pipeline.data import located
from pipeline.errors import BadInput, Lost, TakenOver, Unanswered, Unwritable
from pipeline.given import given
from pipeline.health import Diverged
from pipeline.job import Between, Job, check, dataset, from_json, to_json
from pipeline.learner import build
from pipeline.loop import train
from pipeline.process import prepare
from pipeline.report import provenance
from pipeline.storage import PART, Storage

T = TypeVar("T")

RULE = re.compile("[─-]{4,}")
FLAGS = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
REGISTRY = tyro.constructors.ConstructorRegistry()
"""How flags are read whose types tyro does not know."""


def fail(reason: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


def guarded(main: Callable[[], None]) -> None:
    """Run a command: bad input is one line and exit code 2; what ends a run on its way, one line and exit code 1."""
    try:
        main()
    except BadInput as e:
        fail(str(e))
    except (Diverged, Unanswered, Unwritable, TakenOver, Lost) as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def parse(kind: type[T], args: Sequence[str], prog: str, description: str, default: Any = tyro.MISSING_NONPROP) -> T:
    """A dataclass from flags. Raises BadInput with tyro's complaint in one line."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(
                kind, args=args, prog=prog, description=description, default=default, config=FLAGS, registry=REGISTRY
            )
    except SystemExit as e:
        if not e.code:
            raise
        raise BadInput(_complaint(told.getvalue())) from e


@REGISTRY.primitive_rule
def _between(about: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """`int | Between`, perhaps `| None`: a number, or two with a colon between."""
    if about.type not in (int | Between, int | Between | None):
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT|INT:INT",
        instance_from_str=lambda words: _number_or_between(words[0]),
        is_instance=lambda value: isinstance(value, int | Between),
        str_from_instance=lambda value: [":".join(map(str, value)) if isinstance(value, Between) else str(value)],
    )


def _number_or_between(word: str) -> int | Between:
    numbers = [int(part) for part in word.split(":")]
    return Between(*numbers) if len(numbers) == 2 else int(word)


def _complaint(box: str) -> str:
    """What tyro says in a box, on one line: without its frame, title and advice."""
    lines = re.sub(r"\x1b\[[0-9;]*m|[│|]", "", box).splitlines()[1:]
    sections = [list(part) for rule, part in itertools.groupby(lines, lambda line: bool(RULE.search(line))) if not rule]
    return " ".join(" ".join(sections[0]).split())


def experiment(job: str, presets: Mapping[str, Job[Any]], description: str) -> None:
    """The command `python -m jobs.<job> [preset] [flags]`; without a preset it is the first one."""
    guarded(partial(_experiment, job, presets, description))


def _experiment(job: str, presets: Mapping[str, Job[Any]], description: str) -> None:
    args, prog, names = sys.argv[1:], f"python -m jobs.{job}", ", ".join(presets)
    preset = next(iter(presets))
    if args and not args[0].startswith("-"):
        preset = args.pop(0)
    if preset not in presets:
        raise BadInput(f"preset {preset}: there are {names}")
    about = f"{description}\n\nPresets: {names}. Shown here: {preset}."
    kind: Any = Job[type(presets[preset].recipe)]  # type: ignore[misc]  # whose fields are the flags
    chosen: Job[Any] = parse(kind, args, f"{prog} {preset}", about, presets[preset])
    start(chosen)


def start(job: Job[Any]) -> None:
    """Check a job, make its run folder, run it, and say what came of it."""
    check(job)
    spec = dataset(job).spec
    job = given(job, build(job.recipe, spec, job.seed, torch.device("cpu")))
    out = job.out or f"runs/{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    storage = Storage.at(out)
    if storage.seen() and storage.names() != [f"job.json{PART}"]:  # of a command that died before there was a run
        raise BadInput(f"--out {out} exists: a run is never overwritten; go on with it by python -m jobs.resume {out}")
    job = dataclasses.replace(job, out=storage.path if storage.local else out, data=located(job.data))
    go(job, spec)


def go(job: Job[Any], spec: Spec) -> None:
    """Run a checked job in its folder, new or not, with Ray or without."""
    began, where = time.perf_counter(), device(job.device)
    if job.observe:
        observer.check(job, spec)
    if job.learners or job.actors or job.observe:
        from pipeline.distributed import cluster  # here: a run without Ray does not import it
        from pipeline.distributed import train as distributed

        with cluster.joined():
            cluster.wait_for_resources(job)
            try:
                found = distributed.run(job, spec, where, _record(job))
            except Diverged:
                _observed(job)
                raise
    else:
        command = _record(job)
        prepare(job.threads)
        nets = build(job.recipe, spec, job.seed, where)
        found = train(job, where, LocalPool(job.recipe, nets), partial(tqdm, mininterval=1.0), command) or {}
    _conclude(job, found, time.perf_counter() - began)


def load_run(run: str) -> Job[Any]:
    """The job of a run folder, wherever the folder lies now. Raises BadInput where there is none."""
    storage = Storage.at(run)
    if not storage.seen("job.json"):
        raise BadInput(f"there is no run at {run}: no job.json")
    try:
        settings = storage.read_json("job.json")
    except ValueError as e:
        raise BadInput(f"{run}/job.json is not JSON: {e}") from e
    return dataclasses.replace(from_json(settings), out=storage.path if storage.local else run)


def device(asked: str) -> torch.device:
    """Of this process, as --device says."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: this machine has no GPU that torch can use")
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(auto if asked == "auto" else asked)


def _record(job: Job[Any]) -> str:
    """Write job.json, and take the run over from whoever worked on it; what names this command to its learners."""
    out = Storage.at(job.out)
    try:
        out.write_json("job.json", {**to_json(job), "provenance": provenance()})
        return owner.claim(out)
    except Unwritable as e:
        raise BadInput(f"--out {e}") from e


def _observed(job: Job[Any]) -> None:
    """Say what the run's observers have found."""
    if job.observe and (rows := observer.rows(Storage.at(job.out))):
        print(f"{'verdict':24} {observer.told(rows[-1])}")


def _conclude(job: Job[Any], found: Mapping[str, Any], seconds: float) -> None:
    if job.samples and not found["metrics"]:
        print("no final metrics: they need images with labels, text, or a known density")
    if found["metrics"].get("frechet", 0) > found["metrics"].get("frechet_start", math.inf):
        print("warning: the samples are further from the data than the noise they start from", file=sys.stderr)
    for name, value in found["metrics"].items():
        print(f"{name:24} {value:.4g}")
    print(f"{'wall time':24} {seconds:.0f} s here, {found['wall_seconds']:.0f} s of learning in all")
    print(f"{'gradient evaluations':24} {found['gradient_evaluations']:,}")
    if job.max_drift:
        print(f"{'drift waits':24} {found['drift_waits']} of {found['updates']} updates waited for fresh chains")
    _observed(job)
    for name, count in found["faults"].items():
        if count:
            print(f"{name.replace('_', ' '):24} {count}")
    if found["rollbacks"]:
        print(f"{'rollbacks':24} {found['rollbacks']}")
    print(f"{'weights':24} sha256 {found['weights_sha256']}")
    storage = Storage.at(job.out)
    for folder in ("samples", "figures"):
        for name in [n for n in (storage / folder).names() if not n.startswith("update-")]:
            print(f"{folder:24} {job.out}/{folder}/{name}")
    print(f"{'run folder':24} {job.out}")
    print(f"{'curves and pictures':24} {sys.executable} -m tensorboard.main --logdir {shlex.quote(job.out)}")
