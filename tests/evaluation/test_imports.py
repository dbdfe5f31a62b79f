"""What is slow to import is imported where it is used."""

import subprocess
import sys

SLOW = ("arviz", "matplotlib", "optuna", "ray", "scipy", "sklearn", "tensorboard", "torch_fidelity", "torchvision")

PROGRAM = f"""
import importlib, pkgutil, sys
for package in ("pipeline.evaluation", "pipeline.search", "pipeline.report"):
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, package + "."):
        importlib.import_module(module.name)
print([name for name in {SLOW} if name in sys.modules])
"""


def test_evaluation_search_and_report_import_no_figures_and_no_judges_before_they_are_used():
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"
