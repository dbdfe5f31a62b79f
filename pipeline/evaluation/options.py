"""What an evaluation measures, and how."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.errors import InputError
from pipeline.evaluation.judges.features import FeatureKind
from pipeline.evaluation.metrics.mixing_trajectories import FEWEST_DRAWS
from pipeline.evaluation.protocol import Split
from pipeline.sampling.draw import ChainStart
from pipeline.settings import Count, NonNegative, PositiveInt, Settings

Group: TypeAlias = Literal["samples", "grid", "items", "weights", "long-run", "convergence", "mixing", "likelihood"]
"""Distances of fresh samples; densities on a grid in the plane; metrics of single items; what the weights say
alone; distances of long runs; the observer's verdict; R-hat and effective sample sizes; likelihood by annealed
importance sampling."""


@dataclass(frozen=True)
class EvaluationOptions(Settings):
    """What is measured, and how. Every default is that of a run's final evaluation.

    >>> from pipeline import ShortRun, fit
    >>> model = fit(ShortRun(width=8), "rings", 2, progress=False)
    >>> model.evaluate(["grid"], EvaluationOptions(n=50)).measurements[1].protocol.n
    50
    """

    n: PositiveInt = 1000
    """Samples to draw, and training items to score, at most; held-out items are all scored."""
    split: Split | None = None
    """Items that samples are compared with, and whose metrics and likelihoods are computed: the training items, or
    those held out. None: single items on the test split where there is one, everything else on the training items."""
    reference: PositiveInt = 10_000
    """Items of the split that samples are compared with, at most."""
    features: tuple[FeatureKind, ...] = ()
    """Features for comparison; long runs use the first. None: the data set's own classifier for labelled images,
    coordinates for vectors. A known density comes first, by KL. Only over inception are distances FID and KID."""
    inception_weights: str = ""
    """torch-fidelity's file of Inception-v3 weights; empty: downloaded once."""
    squeezenet: str = ""
    """An .npz of SqueezeNet v1.0: <layer>/weight (out, in, height, width) and <layer>/bias."""
    starts: tuple[ChainStart, ...] = ()
    """Where long chains start: the run's initial distribution, its data, its bank. None: all that it has."""
    multiples: tuple[NonNegative, ...] = (1, 10, 100)
    """Lengths of long runs, in multiples of the run's K steps; 0: their start."""
    long_run_chains: Count = 0
    """Chains per start in long runs; 0: 300 of images, 1,000 of other data."""
    chains: PositiveInt = 16
    """Chains per start whose mixing is measured."""
    draws: int = 200
    """Draws per chain of mixing, after the warm-up."""
    warm_up: Count = 100
    """Draws per chain of mixing that are discarded."""
    every: Count = 0
    """Steps between draws; 0: K."""
    annealed: PositiveInt = 500
    """Annealed chains per normaliser."""
    temperatures: PositiveInt = 200
    """Temperatures of an annealed chain."""
    items: PositiveInt = 100
    """Items whose likelihood is measured where each needs chains of its own."""
    item_chains: PositiveInt = 20
    """Annealed chains per item."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"n": 2, "reference": 2, "draws": FEWEST_DRAWS, "annealed": 2, "temperatures": 2,
                            "items": 2, "item_chains": 2}.items():  # fmt: skip
            if getattr(self, name) < least:
                raise InputError(f"must be {least} or more", name, getattr(self, name))
        if not max(self.multiples, default=0):
            raise InputError("needs a multiple above 0", "multiples", self.multiples)
        if self.long_run_chains == 1:
            raise InputError("a distance needs two chains or more", "long_run_chains", 1)
