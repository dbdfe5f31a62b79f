"""Settings: bounds on fields, held in Python as on a command line."""

from dataclasses import replace

import pytest

from pipeline.errors import InputError
from pipeline.evaluation.options import EvaluationOptions
from pipeline.recipes.short_run import ShortRun
from pipeline.runs.job import ResourceSettings
from pipeline.samplers.langevin import Langevin

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("change", [{"steps": -1}, {"drift": NAN}, {"drift": INF}, {"noise": -0.1}])
def test_a_sampler_out_of_bounds_is_an_error_that_names_the_field(change):
    (name, value), sound = *change.items(), {"steps": 3, "drift": 1.0, "noise": 0.1}
    with pytest.raises(InputError, match=f"^{name}={value}: ") as error:
        Langevin(**{**sound, **change})
    assert error.value.field == name


@pytest.mark.parametrize("change", [{"width": 0}, {"batch_size": 0}, {"lr": -1.0}])
def test_a_recipe_out_of_bounds_is_an_error_that_names_the_field(change):
    with pytest.raises(InputError, match=f"^{next(iter(change))}="):
        replace(ShortRun(), **change)


def test_whole_numbers_in_float_fields_are_floats_so_equal_settings_have_equal_protocols():
    assert repr(ResourceSettings(cpus_per_actor=1)) == repr(ResourceSettings(cpus_per_actor=1.0))
    assert repr(EvaluationOptions(multiples=(1, 3)).multiples) == "(1.0, 3.0)"


@pytest.mark.parametrize("gpus", [1.5, -0.5, INF])
def test_a_process_has_a_share_of_a_gpu_or_whole_ones(gpus):
    for sound in (0.0, 0.3, 1.0, 2.0):
        assert ResourceSettings(gpus_per_actor=sound).gpus_per_actor == sound
    with pytest.raises(InputError, match=r"^gpus_per_actor="):
        ResourceSettings(gpus_per_actor=gpus)
