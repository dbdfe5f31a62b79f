"""Vectors for positions or images, and matrices that motion turns them by: grid cells and V1 (1911.11374, part b).

`gridness` is the median over blocks of how hexagonal their response maps are; `path_error` the error of path
integration after 60 steps, in cells. `jobs.path_integration RUN` walks and decodes paths.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.experiment import experiment
from pipeline.recipes.grid_cells import GridCells
from pipeline.recipes.path_integration import PathIntegration
from pipeline.recipes.simple_cells import SimpleCells
from pipeline.runs.job import DataSettings, Job, LoggingSettings, ResourceSettings, override

MODULES = Job(
    recipe=GridCells(),
    data=DataSettings("square", test_share=0.002),
    updates=6000,
    lanes=1,
    resources=ResourceSettings(actors=0, learners=0),
    logging=LoggingSettings(checkpoint_every=2000, log_every=100),
)
SINGLE = override(
    MODULES,
    recipe=GridCells(
        batch_size=200,
        blocks=1,
        smallest_scale=72.0,
        largest_scale=72.0,
        kernel_weight=0.0,
        motion_weights=(0.3, 3.0),
        longest_motion=5.6,
        lr=0.02,
    ),
)
DIRECTIONS = override(MODULES, recipe=PathIntegration())
V1 = override(MODULES, recipe=SimpleCells(), source="cifar10", test_share=0.0, updates=600)

PRESETS: dict[str, Job[Any]] = {"single": SINGLE, "modules": MODULES, "path-integration": DIRECTIONS, "v1": V1}
COSTS = {"single": 0.9, "modules": 1.9, "path-integration": 5.1, "v1": 0.3}
CLAIMS = """
One thread of a busy two-core virtual machine, torch 2.14, seeds 4, 5, 6; more in docs/grid_cells.md.

single, seeds 10, 11, 12: gridness 1.33, 1.30, 1.28 (95 % point of noise of the same spectrum: .19, .14, .23).

modules: median gridness .96, 1.08, .85; 92, 77, 93 % of blocks above .37 (3, 3, 2 of 16 are not defined). Slope of
spacing against alpha -.50, -.52, -.52 where the disc of isometry is whole. Path error at 60 steps .24, .14, .13
cells; with noise of half the norm at every step 11.8, 11.0, 11.5, and re-encoded 1.7, 1.6, 1.8.

v1: 4,000 images of CIFAR-10: 89, 89, 89 % of pairs of filters are 90 degrees out of phase, within 20; median cosine of
frequency and motion above .999. Without the motion's loss 22, 20, 19 % and .72, .72, .86.

path-integration: seed 7: no block is a grid (median gridness -.77); path error at 60 steps 1.2 cells, staying put 12.5.
"""
OBJECTIVE = ("gridness", "quadrature_share")


def space(trial: Any, recipe: Any, budget: int) -> Any:
    """What `jobs.search` tries: the learning rate, and the weight of motion; of grid_cells also how it rises."""
    updates = max(8, budget // recipe.batch_size)
    lr, weight = trial.suggest_float("lr", 1e-3, 5e-2, log=True), trial.suggest_float("motion", 0.05, 5.0, log=True)
    if isinstance(recipe, SimpleCells):
        return replace(recipe, lr=lr, motion_weight=weight)
    if isinstance(recipe, PathIntegration):
        return replace(recipe, lr=lr, lr_updates=updates, motion_weight=weight)
    return replace(
        recipe,
        lr=lr,
        lr_updates=updates,
        motion_weights=(weight * trial.suggest_float("motion_start", 0.01, 1.0, log=True), weight),
        motion_rise=max(1, round(updates * trial.suggest_float("motion_rise", 0.1, 1.0))),
    )


if __name__ == "__main__":
    experiment("grid_cells")
