"""How chains of an energy with a flow mix: moved behind the flow, in z, and where the data are, in x (2006.06897).

RUN is one of neural_transport, of flow_contrastive (its energy, behind its flow), or of flow itself.

Chains of both kinds start at the same points, from z of twice the spread of N(0, I), under the same density, with steps
tuned to the same acceptance. R-hat and ESS are of the second half of the draws, over the energy and coordinates (of
images: principal components of features); `modes` are those of eight Gaussians that a chain has been nearest to, and
`changes` how often it went from one to another. `still` chains, whose proposals were all refused in the second half,
are left out of R-hat and ESS. ESS is of all chains together.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from tqdm import tqdm

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import ResultFolder, SnapshotArgs, open_snapshot
from pipeline.energies.toy_densities import EightGaussians
from pipeline.errors import InputError
from pipeline.evaluation.metrics.traces import FEWEST_DRAWS
from pipeline.evaluation.metrics.transport import figure, mixing_by_space, space_trajectories


@dataclass(frozen=True)
class Transport:
    """What is run, and where the findings go."""

    look: SnapshotArgs
    chains: int = 16
    """Chains in each space."""
    steps: int = 2000
    """Proposals of each chain."""
    every: int = 1
    """Proposals between draws."""
    leapfrog_steps: int = 1
    """Leapfrog steps of a proposal; 1: a Langevin step that is corrected (MALA)."""
    acceptance_rate: float = 0.9
    """Share of proposals, in both spaces, that the steps are tuned to accept."""


def main() -> None:
    """The command."""
    asked = parse(Transport, sys.argv[1:], "python -m jobs.transport", __doc__ or "")
    if asked.chains < 2 or asked.every < 1 or asked.leapfrog_steps < 1 or not 0 < asked.acceptance_rate < 1:
        raise InputError(
            "--chains must be 2 or more, --every and --leapfrogs 1 or more, --acceptance-rate between 0 and 1"
        )
    if asked.steps // asked.every < 2 * FEWEST_DRAWS:
        raise InputError(f"--steps {asked.steps}: it must be {2 * FEWEST_DRAWS} times --every or more")
    model = open_snapshot(asked.look)
    found = space_trajectories(
        model,
        asked.chains,
        asked.steps,
        asked.every,
        asked.leapfrog_steps,
        asked.acceptance_rate,
        asked.look.seed,
        _bar,
    )
    findings = ResultFolder(asked.look, model, "transport")
    density = model.data.density
    modes = density.modes if isinstance(density, EightGaussians) else None
    findings.figure("transport", figure(model, found))
    findings.result(asked, mixing_by_space(found, modes))


def _bar(draws: Iterable[int], total: int) -> Iterable[int]:
    return tqdm(draws, total=total, desc="chains", unit="draw")


if __name__ == "__main__":
    run_command(main)
