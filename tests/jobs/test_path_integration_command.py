"""Runs of positions and patches: what they are evaluated by, walked paths, and commands that need samples."""

import json
from pathlib import Path

import pytest

TINY = "--learners 0 --actors 0 --batch-size 8 --updates 2 --eval-samples 20"
GRID = f"grid_cells single {TINY} --side 13 --test-share .0005"


def read_result(folder):
    return json.loads((Path(folder) / "result.json").read_text())


@pytest.fixture
def positions(train):
    return train(GRID)


def test_a_run_ends_with_gridness_and_errors_of_paths(positions):
    metrics = read_result(positions)["metrics"]
    assert set(metrics) == {
        *("path_error", "path_error_noise", "path_error_reencoded", "decoding_error", "decoding_near"),
        *("gridness", "gridness_min", "gridness_share", "gridness_undefined", "gridness_null"),
    }


def test_paths_are_walked_and_decoded(command, positions):
    code, out, err = command(f"path_integration {positions} --paths 10 --steps 5 --noises 0 .5")
    assert code == 0, err
    result, folder = read_result("run/path_integration-2"), Path("run/path_integration-2")
    assert list(result["curves"]) == ["noise_0", "noise_0_reencoded", "noise_0.5", "noise_0.5_reencoded"]
    assert {len(curve) for curve in result["curves"].values()} == {6}
    assert result["metrics"]["path_error_noise_0"] == result["curves"]["noise_0"][-1]
    assert all((folder / f"{name}.png").exists() for name in ("errors", "paths"))
    assert "paths.png" in out


def test_the_weights_alone_are_measured_and_drawn(command, positions):
    code, _, err = command(f"evaluate {positions} --metrics weights")
    assert code == 0, err
    assert "gridness_undefined" in read_result("run/evaluate-2")["metrics"]
    assert Path("run/evaluate-2/maps.png").exists()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sample run --out samples.npy", "GridCells has no chain model, and so no samples"),
        ("evaluate run --metrics samples", "--metrics samples: samples of GridCells are not data"),
        ("reconstruct run", "run run: GridCells has no energy of data"),
        ("complete run", "run run: GridCells runs no chains of a posterior, which could complete"),
        ("path_integration run --longest 7", "--longest 7.0: must be at most 6 cells, half a side of the square"),
    ],
)
def test_what_needs_samples_ends_in_one_line(command, positions, line, why):
    assert command(line) == (2, "", f"error: {why}\n")
    assert not Path("samples.npy").exists()


def test_other_runs_and_other_data_are_refused_in_one_line(command, a_run):
    code, _, err = command(f"path_integration {a_run}")
    assert (code, err) == (2, "error: run run: ShortRun has no vectors for positions\n")
    code, _, err = command(f"{GRID} --data rings --out other")
    assert (code, err) == (2, "error: --data: positions must be in the square [-1, 1]^2\n")
    assert not Path("other").exists()
    code, _, err = command(f"{GRID} --longest-motion 7 --out other")
    assert (code, err) == (2, "error: --longest-motion 7.0: must be at most 6 cells, half a side of the square\n")
    code, _, err = command(f"grid_cells v1 {TINY} --data digits --out v1")
    assert (code, err) == (2, "error: --size 12: images of (8, 8) have no patch and motion of that size\n")
    assert not Path("v1").exists()


def test_patches_are_measured_by_the_phases_of_pairs(train):
    metrics = read_result(train(f"grid_cells v1 {TINY} --data digits --size 5 --pairs 4"))["metrics"]
    assert set(metrics) == {"quadrature_share", "orientation_cosine"}
