"""What docs/review.md sets beside the recipes: linear generators, and how well a generator can reconstruct.

Without `--run`: factor analysis or probabilistic PCA (scikit-learn) of the training items, x = W z + mean + noise.
Reconstructions are W E[z|x] + mean, samples are draws of x. Items are dequantized as flows have them, so that bits per
dimension are comparable.

With `--run`: the mean squared error of held-out items at the z of least |x - g(z)|^2 / (2 sigma^2) + |z|^2 / 2 (Adam
from z = 0), for any run with a generator, however it was learned.

    python -m benchmarks.review --model ppca --seed 4
    python -m benchmarks.review --run runs/NAME
"""

import json
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.decomposition import PCA, FactorAnalysis

from jobs.cli.command import run_command
from jobs.cli.open_run import load_run
from jobs.cli.parsing import parse
from pipeline.data.dataset import load_data
from pipeline.evaluation.comparison import default_comparison
from pipeline.nets.flow import FlowSettings
from pipeline.nets.generator import decoder_of
from pipeline.rng import generator
from pipeline.runs.snapshot import newest_snapshot

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    model: Literal["factor-analysis", "ppca"] = "ppca"
    """Linear generator."""
    run: str = ""
    """Run with a generator; empty: a linear one is fitted."""
    data: str = "digits"
    """Images that the linear generator learns."""
    levels: int = 17
    """Values of a pixel."""
    test_share: float = 0.2
    """Share of the items that is held out."""
    latent_dim: int = 16
    """Dimension of z."""
    n: int = 1000
    """Samples."""
    iterations: int = 500
    """Of Adam, by which z is found."""
    seed: int = 0
    """Seed of the split, of dequantisation and of samples."""


def held_out(data):
    return data.test.batch(np.arange(data.test.size))["x"]


def linear(args):
    """Fit a linear generator."""
    data = load_data(args.data, test_share=args.test_share, seed=args.seed)
    x, test = data.batch(np.arange(data.size))["x"], held_out(data)
    flow, rng = FlowSettings(levels=args.levels), generator(args.seed)
    noisy, noisy_test = (flow.dequantize(one, rng).flatten(1).double().numpy() for one in (x, test))
    began = time.process_time()
    kind = FactorAnalysis if args.model == "factor-analysis" else PCA
    model = kind(args.latent_dim).fit(noisy)
    seconds = time.process_time() - began
    covariance, mean = model.get_covariance(), model.mean_
    noise = model.noise_variance_ * np.ones(len(mean))
    signal = covariance - np.diag(noise)  # W W^T
    inputs = test.flatten(1).double().numpy()
    reconstructed = mean + (inputs - mean) @ np.linalg.solve(covariance, signal)
    energy = torch.tensor(-model.score_samples(noisy_test))
    draws = np.random.default_rng(args.seed).multivariate_normal(mean, covariance, args.n, method="eigh")
    samples = torch.tensor(draws, dtype=torch.float32).reshape(-1, *test.shape[1:])
    return {
        "model": args.model,
        "seed": args.seed,
        "mse": float(np.square(reconstructed - inputs).mean()),
        "bits_per_dim": float(flow.metrics(energy, test)["bits_per_dim"].mean()),
        "frechet": default_comparison(data, CPU).distance(samples),
        "cpu_seconds": seconds,
    }


def of_run(args):
    """Reconstruct a run's held-out items with its generator."""
    snapshot = newest_snapshot(load_run(args.run), CPU)
    recipe, decoder, x = snapshot.recipe, decoder_of(snapshot.nets), held_out(snapshot.data)
    z = torch.zeros(len(x), recipe.latent_dim, requires_grad=True)
    optimizer = torch.optim.Adam([z], 0.05)
    for _ in range(args.iterations):
        optimizer.zero_grad()
        (decoder.loss(z, {"x": x}, recipe.sigma) + z.square().sum(1) / 2).sum().backward()
        optimizer.step()
    with torch.no_grad():
        mse = (decoder.sample(z, generator(0)) - x).square().mean()
    return {"run": args.run, "seed": snapshot.job.seed, "mse": mse.item(), "sigma": recipe.sigma}


def main(argv):
    args = parse(Settings, argv, "python -m benchmarks.review", __doc__)
    print(json.dumps(of_run(args) if args.run else linear(args)))


if __name__ == "__main__":
    run_command(main)
