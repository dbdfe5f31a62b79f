"""The public names: importable, documented with an example that runs, and cheap to import."""

import doctest
import subprocess
import sys

import pytest

import pipeline

ALIASES = {"Batch", "Energy"}
"""Type aliases, which have no docstring of their own."""


def run_examples(thing, name):
    """Run the examples in the docstrings of a thing and of its methods; its own docstring must have one."""
    own, *methods = doctest.DocTestFinder().find(thing, name)
    assert own.examples, f"{name} has no example"
    for test in (own, *methods):
        assert not doctest.DocTestRunner(verbose=False).run(test).failed


def test_the_package_has_an_example_that_runs():
    run_examples(pipeline, "pipeline")


@pytest.mark.parametrize("name", [name for name in pipeline.__all__ if name not in ALIASES])
def test_a_public_name_has_an_example_that_runs(name):
    run_examples(getattr(pipeline, name), name)


def test_the_package_imports_nothing_until_a_name_is_used_and_no_name_imports_ray():
    names = "[getattr(pipeline, name) for name in pipeline.__all__]"
    code = f"import sys, pipeline; assert 'torch' not in sys.modules; {names}; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Langevn'"):
        _ = pipeline.Langevn
