"""The commands: one file per experiment, with its presets and measured claims, and one per way to use a run.

`EXPERIMENTS` is the one list of experiments; the command line, `jobs.search` and the tests read it.
"""

import sys

from pipeline import stop

if sys.argv[0] == "-m":  # `python -m jobs.NAME` begins: a signal during its imports, too, ends it in one line
    stop.catch_signals()

EXPERIMENTS = {
    "short_run": "Short-run MCMC as a model of images and points (1904.09770)",
    "anatomy": "Convergent and non-convergent energy-based models (1903.12370)",
    "latent_prior": "Generator with an energy-based prior in latent space (2006.08205)",
    "short_run_inference": "Multi-layer generator, learned by short-run inference (1912.01909)",
    "symbol_vector": "Classifier and generator from few labels, by symbol-vector coupling (2010.09359)",
    "joint_vae": "VAE and latent energy-based model that learn from each other (2006.06059)",
    "alternating_backprop": "Generator with a persistent latent vector per item (1911.11374)",
    "cooperative": "Energy and generator that learn from each other, by MCMC teaching (1609.09408)",
    "flow": "Flow by maximum likelihood; the next two experiments start with one",
    "neural_transport": "Energy on a flow backbone, whose chains move in the flow's latent space (2006.06897)",
    "flow_contrastive": "Energy and flow that learn to tell data from the flow's samples (1912.00589)",
    "grid_cells": "Vectors for positions, or images, and matrices for motion: grid cells and V1 (1911.11374)",
    "hypernetwork": "Network that samples the weights of diverse classifiers (1905.02898)",
    "anomaly": "Detection of a held-out class by the energies of the models above (2006.08205, table 3)",
}
"""Experiments (modules of this package), each in one line."""

COMMANDS = {
    "resume": "Continue a run, or a search, from its newest checkpoint",
    "evaluate": "Measure a run: distances, long runs, mixing, likelihood, each with its protocol",
    "sample": "Draw samples from a run, into a file or in bulk into a folder",
    "reconstruct": "Reconstruct images by inferring the start of a short-run chain",
    "interpolate": "Interpolate between the starts of short-run chains",
    "complete": "Complete items of which a part is hidden, with posterior chains",
    "path_integration": "Walk paths, and follow them by motions of a run's vectors alone",
    "ensemble": "Compare classifiers that a hypernetwork samples with independently trained ones",
    "distill": "Distil an ensemble that a hypernetwork samples into one classifier",
    "doctor": "Look at a cluster, and say what is wrong with it and what to do",
    "report": "Write runs and searches into one HTML page that needs nothing else",
    "search": "Search the settings of an experiment on Ray Tune",
    "plan": "Plan a job on other machines: learners, actors, lanes and lag, with hours and cost",
    "studies.transport": "How chains mix in a flow's latent space and in data space",
    "studies.step_size": "How close short-run inference comes to the posterior, by step size",
    "studies.few_labels": "What unlabelled items are worth, against methods that use labels alone",
    "studies.staleness": "What stale chains cost, and what they gain",
}
"""The other commands (modules of this package), each in one line."""
