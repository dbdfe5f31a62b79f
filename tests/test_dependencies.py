import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = {"pipeline", "jobs"}
PARTS = {"pydantic-core": "pydantic"}
"""Distributions that come with another one."""


def imported(path):
    """The packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_the_package_imports_is_installed_with_it():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normal(re.match(r"[\w.-]+", line)[0]) for line in content["dependencies"]}
    files = [path for package in OWN for path in (ROOT / package).rglob("*.py")]
    names = {name for path in files for name in imported(path)} - OWN - sys.stdlib_module_names
    installed = packages_distributions()
    distributions = {name: {normal(one) for one in installed[name]} for name in names}
    undeclared = {name for name, ones in distributions.items() if not {PARTS.get(one, one) for one in ones} & declared}
    assert len(names) > 10
    assert not undeclared
