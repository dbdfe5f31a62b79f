"""How chains mix in a flow's latent space z, and in data space x, under one density (2006.06897).

RUN is a run of neural_transport, of flow_contrastive (its energy, and its flow's latent space), or of flow.

Chains of both spaces start at the same points, from z of twice the spread of N(0, I), with step sizes tuned to the same
acceptance rate. R-hat and ESS are over the second half of the draws, of energy and coordinates (of images: principal
components of features). `modes` counts the modes of eight Gaussians that a chain visits, `mode_changes` how often it
changes between them. `stuck_chains`, whose proposals were all rejected in the second half, are left out of R-hat and
ESS. ESS is that of all chains together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from pydantic import Field
from tqdm import tqdm

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, open_snapshot, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from pipeline.energies.toy_densities import EightGaussians
from pipeline.errors import InputError
from pipeline.evaluation.metrics.mixing_trajectories import FEWEST_DRAWS
from pipeline.evaluation.metrics.transport import mixing_by_space, space_trajectories
from pipeline.settings import PositiveInt


@dataclass(frozen=True)
class Transport(SnapshotArgs):
    """The run, and the chains."""

    chains: Annotated[int, Field(ge=2)] = 16
    """Chains per space."""
    steps: PositiveInt = 2000
    """Proposals per chain."""
    every: PositiveInt = 1
    """Proposals between draws."""
    leapfrog_steps: PositiveInt = 1
    """Leapfrog steps per proposal; 1: a corrected Langevin step (MALA)."""
    acceptance_rate: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Acceptance rate that the step sizes of both spaces are tuned to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps // self.every < 2 * FEWEST_DRAWS:
            raise InputError(f"must be {2 * FEWEST_DRAWS} times every, or more", "steps", self.steps)


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Transport, argv, "python -m jobs.studies.transport", __doc__ or "")
    snapshot = open_snapshot(args)
    lengths = args.chains, args.steps, args.every, args.leapfrog_steps
    progress = partial(tqdm, desc="chains", unit="draw")
    trajectories = space_trajectories(snapshot, *lengths, args.acceptance_rate, seed_of(args, snapshot), progress)
    folder, density = ResultFolder(args, snapshot, "transport"), snapshot.data.density
    modes = density.modes if isinstance(density, EightGaussians) else None
    from pipeline.evaluation.figures import transport_figure  # here: matplotlib is slow to import

    folder.figure("transport", transport_figure(snapshot, trajectories))
    folder.result(args, mixing_by_space(trajectories, modes))


if __name__ == "__main__":
    run_command(main)
