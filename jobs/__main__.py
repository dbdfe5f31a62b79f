"""`python -m jobs NAME ...`, and the installed command `ebm NAME ...`: every command by its name."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from jobs import COMMANDS, EXPERIMENTS
from jobs.cli.command import find_name, run_command


def main() -> None:
    """The command `ebm`."""
    if os.getcwd() not in sys.path:  # as `python -m` does, so that --recipe-module finds modules there
        sys.path.insert(0, os.getcwd())
    run_command(dispatch)


def dispatch(args: Sequence[str]) -> None:
    """Run the command that the first argument names; without one, list them all."""
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return
    name = find_name(args[0], [*EXPERIMENTS, *COMMANDS], "command")
    if name in COMMANDS:
        import_module(f"jobs.{name}").main(args[1:])
        return
    from jobs.cli.experiment import run_experiment  # here: the overview does not need torch

    run_experiment(name, args[1:])


def _overview() -> str:
    width = max(map(len, [*EXPERIMENTS, *COMMANDS]))
    sections = {
        "Experiments: python -m jobs.NAME [PRESET] [FLAGS]": EXPERIMENTS,
        "Other commands: python -m jobs.NAME [FLAGS]": COMMANDS,
    }
    lines = ["Each takes --help. The installed command does the same: ebm NAME ..."]
    for title, commands in sections.items():
        lines += ["", title, *(f"  {name:{width}}  {about}" for name, about in commands.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
