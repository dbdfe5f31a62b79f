"""Every recipe, small, with data that it accepts."""

from dataclasses import replace

import pytest

from pipeline.nets.classifier import ClassifierSettings
from pipeline.nets.flow import FlowSettings
from pipeline.nets.hypernetwork import HypernetworkSettings
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
from pipeline.runs.job import override
from pipeline.samplers.langevin import Langevin

QUICK = Langevin(3, 1.0, 0.01)
SMALL = ShortRun(langevin=QUICK, batch_size=8, width=4)
ANATOMY = Anatomy(langevin=QUICK, batch_size=8, width=4)
LATENT = LatentPrior(latent_dim=3, prior_steps=3, posterior_steps=2, batch_size=8, energy_width=8, width=4)
JOINT = JointVAE(latent_dim=3, batch_size=8, width=4)
ABP = AlternatingBackprop(latent_dim=3, steps=2, batch_size=8, width=4, architecture="conv")
COOP = Cooperative(langevin=QUICK, latent_dim=3, batch_size=8, width=4, generator_width=4)
SRI = ShortRunInference(latent_dims=(2, 3), steps=2, tune_every=2, tune_items=2, batch_size=8, width=4)
SYMBOL = SymbolVector(latent_dim=3, prior_steps=2, batch_size=8, labelled_batch_size=4, width=4)
GLOW = FlowSettings(couplings=1, hidden=4, levels=17)
COUPLINGS = FlowSettings(family="affine", couplings=2, hidden=4)
FLOW = MaximumLikelihoodFlow(flow=GLOW, batch_size=8)
TRANSPORT = NeuralTransport(flow=GLOW, steps=2, leapfrog_steps=2, batch_size=8, width=4, base_samples=20)
CONTRASTIVE = FlowContrastive(flow=GLOW, batch_size=8, width=4, threshold=0.0)
GRID = GridCells(batch_size=8, side=10, blocks=2, units=3)
HYPERNETWORK = HypernetworkEnsemble(
    batch_size=24,
    members=3,
    classifier=ClassifierSettings(widths=(4,)),
    hypernetwork=HypernetworkSettings(4, 2, extractor_widths=(6,), generator_widths=(5,)),
)
RECIPES = {
    "short_run on images": (SMALL, "digits"),
    "short_run on points": (replace(SMALL, start_from="gaussian", start_scale=2.0), "eight-gaussians"),
    "anatomy from data": (replace(ANATOMY, start_from="data", bank=32), "digits"),
    "anatomy by sgd": (replace(ANATOMY, architecture="nonlocal", optimizer="sgd", lr=0.1, lr_decay=0.9), "digits"),
    "anatomy on points": (replace(ANATOMY, start_from="gaussian"), "rings"),
    "latent_prior on images": (LATENT, "digits"),
    "latent_prior on points": (LATENT, "eight-gaussians"),
    "latent_prior on text": (LATENT, "text"),
    "symbol_vector on text": (replace(SYMBOL, labelled_batch_size=0, symbols=2), "text"),
    "joint_vae on images": (JOINT, "digits"),
    "short_run_inference on images": (SRI, "digits"),
    "short_run_inference on points": (replace(SRI, latent_dims=(2,)), "eight-gaussians"),
    "alternating_backprop on images": (ABP, "digits"),
    "cooperative on images": (COOP, "digits"),
    "cooperative on points": (replace(COOP, inference_steps=2), "eight-gaussians"),
    "symbol_vector on images": (SYMBOL, "digits"),
    "symbol_vector on points without labels": (replace(SYMBOL, labelled_batch_size=0, symbols=8), "eight-gaussians"),
    "symbol_vector on counts": (SYMBOL, "counts"),
    "symbol_vector as a VAE": (replace(SYMBOL, tilt=0.0, architecture="mlp"), "digits"),
    "flow on images": (FLOW, "digits"),
    "flow on points": (replace(FLOW, flow=replace(COUPLINGS, family="spline")), "checkerboard"),
    "neural_transport on points": (replace(TRANSPORT, flow=COUPLINGS), "eight-gaussians"),
    "neural_transport by langevin": (replace(TRANSPORT, kernel="langevin", bank=32, restart_prob=0.2), "digits"),
    "flow_contrastive on images": (replace(CONTRASTIVE, labelled_batch_size=4), "digits"),
    "flow_contrastive with a base": (replace(CONTRASTIVE, base="flow"), "digits"),
    "hypernetwork on images": (HYPERNETWORK, "digits"),
    "hypernetwork of convolutions": (
        replace(HYPERNETWORK, classifier=ClassifierSettings(channels=(3, 2)), gauge="paper", data_noise=0.1),
        "digits",
    ),
    "hypernetwork on counts": (replace(HYPERNETWORK, gauge="none"), "counts"),
    "flow_contrastive on points": (replace(CONTRASTIVE, flow=COUPLINGS), "spirals"),
    "grid_cells": (GRID, "square"),
    "path_integration": (PathIntegration(batch_size=8, side=10, blocks=2, units=3, directions=8), "square"),
    "simple_cells": (SimpleCells(batch_size=8, patches=2, size=5, pairs=3), "digits"),
    "grid_cells in one block": (replace(GRID, blocks=1, kernel_weight=0.0), "square"),
}


ARCHETYPES = (
    "anatomy from data",
    "latent_prior on images",
    "alternating_backprop on images",
    "cooperative on images",
    "symbol_vector on counts",
    "neural_transport by langevin",
    "grid_cells",
    "hypernetwork on images",
)
"""Recipes of the fast tests: a bank, two chains, one state per datum, carried vectors, labels and counts, frozen
networks, no chains, and samples that are not data."""


def recipe_names(*fast):
    """Names of all recipes, as parameters of a test; all but those in `fast` are marked slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]


def with_recipe(job, name, texts):
    """The job with this recipe and its data; `texts` is the path of the file that `sentences_in` wrote."""
    recipe, data = RECIPES[name]
    text_as = "counts" if data == "counts" else "sentences"
    return override(job, recipe=recipe, source=texts if data in ("text", "counts") else data, text_as=text_as)
