"""A model's quality as one number."""

from importlib import import_module

import pytest
import torch
from plane_waves import plane_wave_code
from running import CPU, local_pool

from jobs import EXPERIMENTS
from pipeline.data.dataset import load_data
from pipeline.errors import Diverged, InputError
from pipeline.evaluation.metrics import grid_maps
from pipeline.evaluation.metrics.grid import grid_points
from pipeline.nets.bfloat16 import NetsByPrecision
from pipeline.recipe import init_networks
from pipeline.recipes.alternating_backprop import AlternatingBackprop
from pipeline.recipes.anatomy import Anatomy
from pipeline.recipes.grid_cells import GridCells
from pipeline.runs.job import load_dataset, override
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.langevin import Langevin
from pipeline.search.objectives import OBJECTIVES, check_objective, measure_quality


class Truth(torch.nn.Module):
    """T times the energy of a density, for chains at temperature T."""

    def __init__(self, density, temperature, tilt=0.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(temperature))
        self.density, self.tilt = density, tilt

    def forward(self, x):
        return self.scale * (self.density.energy(x) + self.tilt * x[:, 0])


def snapshot_of(job, **nets):
    data = load_dataset(job)
    return Snapshot(job, data, init_networks(job.recipe, data.spec, 0, CPU) | nets, 0)


@pytest.fixture
def plane(small):
    recipe = Anatomy(langevin=Langevin(50, 1.0, 0.06), batch_size=8, width=4)
    return override(small, source="eight-gaussians", recipe=recipe)


def test_the_true_energy_has_divergence_zero_and_a_tilted_one_that_of_its_tilt(plane):
    truth, temperature = load_dataset(plane).density, plane.recipe.langevin.temperature
    pool = local_pool(plane)
    true = snapshot_of(plane, energy=Truth(truth, temperature))
    assert measure_quality(true, OBJECTIVES["grid_kl"], true.data, 0, 0, pool) == pytest.approx(0, abs=1e-5)
    tilted = snapshot_of(plane, energy=Truth(truth, temperature, tilt=1.0))
    points = grid_points(truth.half_width)
    p = (-truth.energy(points)).double().softmax(0)
    expected = float((p * points[:, 0]).sum() + (p * torch.exp(-points[:, 0].double())).sum().log())
    assert measure_quality(tilted, OBJECTIVES["grid_kl"], true.data, 0, 0, pool) == pytest.approx(expected, rel=1e-4)


def test_samples_that_are_not_finite_are_divergence(plane):
    class Steep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(-1e30))

        def forward(self, x):
            return self.scale * x.square().sum(1)

    steep = snapshot_of(plane, energy=Steep())
    pool = local_pool(plane)
    pool.nets, pool.by_precision = steep.nets, NetsByPrecision(steep.nets)
    with pytest.raises(Diverged, match="samples not finite"):
        measure_quality(steep, OBJECTIVES["kl"], steep.data, 50, 0, pool)


def test_qualities_of_items_are_measured_on_held_out_items(small):
    job = override(small, recipe=AlternatingBackprop(latent_dim=3, steps=2, batch_size=8, width=4), test_share=0.1)
    job = override(job, validation_share=0.1, held_out_class=3)
    data = load_dataset(job)
    labels = data.validation.batch(torch.arange(len(data.validation_rows)).numpy())["label"]
    assert 0.3 < float((labels == 3).float().mean()) < 0.5  # half of that class's items, and a tenth of the others
    assert not (data.batch(torch.arange(data.size).numpy())["label"] == 3).any()
    snapshot, pool = snapshot_of(job), local_pool(job)
    assert 0 < measure_quality(snapshot, OBJECTIVES["mse"], data.validation, 50, 0, pool) < 4
    assert 0 < measure_quality(snapshot, OBJECTIVES["auprc"], data.validation, 50, 0, pool) <= 1
    with pytest.raises(InputError, match=r"objective=accuracy: the metrics of single items .* are mse, energy"):
        measure_quality(snapshot, OBJECTIVES["accuracy"], data.validation, 50, 0, pool)


@pytest.mark.parametrize(
    ("objective", "data", "why"),
    [
        ("kl", "digits", "objective=kl: the density of digits is not known"),
        ("frechet", "eight-gaussians", "objective=frechet: needs images with labels"),
        ("nll_nats", "digits", "objective=nll_nats: needs text"),
        ("auprc", "digits", "objective=auprc: needs a held_out_class"),
        ("mse", "digits", "objective=mse: needs held-out items"),
    ],
)
def test_an_objective_that_does_not_fit_the_job_is_refused_in_one_line(small, objective, data, why):
    job = override(small, source=data)
    with pytest.raises(InputError, match=why):
        check_objective(OBJECTIVES[objective], job, load_dataset(job))


def test_shares_that_leave_no_training_items_are_refused():
    with pytest.raises(InputError, match=r"test_share=0.5: beside validation_share=0.5 it must leave items"):
        load_data("digits", test_share=0.5, validation_share=0.5)


def test_gridness_is_measured_on_the_weights_alone(small, monkeypatch):
    monkeypatch.setattr(grid_maps, "NULL_MAPS", 4)
    job = override(small, source="square", recipe=GridCells(blocks=3))
    snapshot = snapshot_of(job, code=plane_wave_code())
    check_objective(OBJECTIVES["gridness"], job, snapshot.data)
    assert measure_quality(snapshot, OBJECTIVES["gridness"], snapshot.data, 10, 0, local_pool(job)) > 1
    with pytest.raises(InputError, match="no such metric"):
        measure_quality(snapshot, OBJECTIVES["quadrature_share"], snapshot.data, 10, 0, local_pool(job))


def test_an_experiment_that_can_be_searched_has_an_objective_for_densities_and_one_for_items():
    modules = [import_module(f"jobs.{name}") for name in EXPERIMENTS]
    searched = [module for module in modules if hasattr(module, "space")]
    assert len(searched) >= 8
    for module in searched:
        of_density, of_items = module.OBJECTIVE
        assert {of_density, of_items} <= OBJECTIVES.keys()
