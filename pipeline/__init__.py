"""Distributed training of energy-based models.

The public names; each is imported when it is first used. `docs/library.md` shows how they fit together.

>>> from pipeline import Langevin
>>> Langevin.textbook(steps=10, step_size=0.1).temperature
1.0
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.batch import Batch, Spec
    from pipeline.data.dataset import Dataset, load_data
    from pipeline.energies.energy import Energy, gaussian, gradient, tilt
    from pipeline.errors import Diverged, InputError, RunError
    from pipeline.evaluation.evaluate import Evaluation, evaluate
    from pipeline.evaluation.options import EvaluationOptions
    from pipeline.library import TrainedModel, fit, load_model
    from pipeline.nets.generator import LatentLikelihood
    from pipeline.recipe import ChainSettings, ChainStates, InitialStates, Recipe
    from pipeline.recipes.alternating_backprop import AlternatingBackprop
    from pipeline.recipes.anatomy import Anatomy
    from pipeline.recipes.cooperative import Cooperative
    from pipeline.recipes.flow import MaximumLikelihoodFlow
    from pipeline.recipes.flow_contrastive import FlowContrastive
    from pipeline.recipes.grid_cells import GridCells
    from pipeline.recipes.hypernetwork import HypernetworkEnsemble
    from pipeline.recipes.joint_vae import JointVAE
    from pipeline.recipes.latent_prior import LatentPrior
    from pipeline.recipes.neural_transport import NeuralTransport
    from pipeline.recipes.path_integration import PathIntegration
    from pipeline.recipes.short_run import ShortRun
    from pipeline.recipes.short_run_inference import ShortRunInference
    from pipeline.recipes.simple_cells import SimpleCells
    from pipeline.recipes.symbol_vector import SymbolVector
    from pipeline.samplers.hmc import HMC, warm_up
    from pipeline.samplers.kernel import Sampler, Stats
    from pipeline.samplers.langevin import Langevin
    from pipeline.schedule import Change

PUBLIC = {
    "pipeline.batch": ("Batch", "Spec"),
    "pipeline.data.dataset": ("Dataset", "load_data"),
    "pipeline.energies.energy": ("Energy", "gaussian", "gradient", "tilt"),
    "pipeline.errors": ("Diverged", "InputError", "RunError"),
    "pipeline.evaluation.evaluate": ("Evaluation", "evaluate"),
    "pipeline.evaluation.options": ("EvaluationOptions",),
    "pipeline.library": ("TrainedModel", "fit", "load_model"),
    "pipeline.nets.generator": ("LatentLikelihood",),
    "pipeline.recipe": ("ChainSettings", "ChainStates", "InitialStates", "Recipe"),
    "pipeline.recipes.alternating_backprop": ("AlternatingBackprop",),
    "pipeline.recipes.anatomy": ("Anatomy",),
    "pipeline.recipes.cooperative": ("Cooperative",),
    "pipeline.recipes.flow": ("MaximumLikelihoodFlow",),
    "pipeline.recipes.flow_contrastive": ("FlowContrastive",),
    "pipeline.recipes.grid_cells": ("GridCells",),
    "pipeline.recipes.hypernetwork": ("HypernetworkEnsemble",),
    "pipeline.recipes.joint_vae": ("JointVAE",),
    "pipeline.recipes.latent_prior": ("LatentPrior",),
    "pipeline.recipes.neural_transport": ("NeuralTransport",),
    "pipeline.recipes.path_integration": ("PathIntegration",),
    "pipeline.recipes.short_run": ("ShortRun",),
    "pipeline.recipes.short_run_inference": ("ShortRunInference",),
    "pipeline.recipes.simple_cells": ("SimpleCells",),
    "pipeline.recipes.symbol_vector": ("SymbolVector",),
    "pipeline.samplers.hmc": ("HMC", "warm_up"),
    "pipeline.samplers.kernel": ("Sampler", "Stats"),
    "pipeline.samplers.langevin": ("Langevin",),
    "pipeline.schedule": ("Change",),
}
"""Public names by the module that defines them."""
_MODULES = {name: module for module, names in PUBLIC.items() for name in names}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
