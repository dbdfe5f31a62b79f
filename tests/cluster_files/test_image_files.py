"""cluster/image/Dockerfile: hadolint's rules, and what it copies."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

IMAGE = Path(__file__).parents[2] / "cluster/image"
LINES = (IMAGE / "Dockerfile").read_text().splitlines()


def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    shown = subprocess.run([hadolint, str(IMAGE / "Dockerfile")], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "")


def test_what_is_copied_exists_and_is_not_ignored():
    allowed = {line[1:] for line in (IMAGE / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {word for line in LINES if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]}
    assert copied == allowed
    assert all((IMAGE.parents[1] / name).exists() for name in copied)


def test_the_image_has_what_the_package_needs():
    import tomllib

    project = tomllib.loads((IMAGE.parents[1] / "pyproject.toml").read_text())["project"]
    pinned = dict(re.findall(r"([a-z]+)(?:\[[a-z,]+\])?==([\d.]+)", "\n".join(LINES)))
    assert {*pinned} == {"torch", "torchvision", "ray"}
    needed = {re.match("[a-z-]+", line)[0]: line for line in project["dependencies"]}
    assert f'"{needed["ray"].partition(">=")[0]}=={pinned["ray"]}"' in "\n".join(LINES)  # the same extras
    python = next(line for line in LINES if line.startswith("ARG PYTHON=")).partition("=")[2]
    assert f">={python}" == project["requires-python"]


def test_the_cluster_manifests_name_the_same_ray():
    ray = re.search(r"ray\[.*\]==([\d.]+)", "\n".join(LINES))[1]
    assert f"rayVersion: {ray}\n" in (IMAGE.parent / "kubernetes/base/raycluster.yaml").read_text()
