"""cluster/image/Dockerfile, as far as it can be tried without a base image: its COPY part, and its lines of pip."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "cluster/image/Dockerfile"


@pytest.mark.skipif(
    os.geteuid() or not shutil.which("buildah"), reason="needs root and buildah (apt-get install buildah)"
)
def test_the_copied_part_is_built(tmp_path):
    shutil.copytree(ROOT, tmp_path / "ebm", ignore=_not_copied, symlinks=True)
    (tmp_path / "ebm/runs").mkdir()
    (tmp_path / "ebm/runs/secret").write_text("of mine")
    (tmp_path / "ebm/pipeline/__pycache__").mkdir(exist_ok=True)
    stores = ["--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    build = ["bud", "--network=none", "--target=source", "--tag=ebm-source", "--file=cluster/image/Dockerfile"]
    build += ["--ignorefile=cluster/image/Dockerfile.dockerignore", "."]
    run = lambda *words: subprocess.run(  # noqa: E731
        ["buildah", *stores, *words], cwd=tmp_path / "ebm", env=environment, capture_output=True, text=True, timeout=300
    )
    built = run(*build)
    assert built.returncode == 0, built.stderr
    container = run("from", "--name=c", "localhost/ebm-source")
    assert container.returncode == 0, container.stderr
    mounted = Path(run("mount", "c").stdout.strip())
    there = {str(path.relative_to(mounted)) for path in mounted.rglob("*")}
    assert {
        "ebm/pyproject.toml",
        "ebm/pipeline/report/style.css",
        "ebm/jobs/short_run.py",
        "ebm/pipeline/runs/uri.py",
    } <= there
    assert "ebm/cluster/slurm/ebm.sbatch" in there
    assert not [name for name in there if "runs" in name.split("/")[:2] or "__pycache__" in name or "/tests" in name]
    run("umount", "c")


def _not_copied(folder, names):
    """What git ignores at the top; there is a package called runs below."""
    return [name for name in names if folder == str(ROOT) and name in (".git", ".venv", "runs")]


@pytest.mark.slow
def test_the_lines_of_pip_make_an_environment_that_trains(tmp_path):
    text = DOCKERFILE.read_text()
    lines = re.findall("^RUN pip (install .*)$", text.partition("# begin pip")[2].partition("# end pip")[0], re.M)
    assert len(lines) == 3
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    shutil.copytree(ROOT, tmp_path / "ebm", ignore=_not_copied, symlinks=True)
    for line in lines:  # the packages come from where this machine has them, not from PyTorch's own index
        words = re.sub(r"--no-cache-dir |--index-url \S+ ", "", line).replace("/ebm", str(tmp_path / "ebm"))
        shell = f"{tmp_path}/venv/bin/python -m pip {words}"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=1800, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    flags = "--steps 5 --width 4 --batch-size 16 --updates 3 --eval-samples 0 --learners 0 --actors 0"
    words = [f"{tmp_path}/venv/bin/ebm", "short_run", "digits", *flags.split(), "--out", str(tmp_path / "run")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=tmp_path, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run/result.json").exists()
