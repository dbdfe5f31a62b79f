"""The public names: importable, documented with an example that runs, and cheap to import."""

import doctest
import inspect
import subprocess
import sys

import pytest

import pipeline

DOCUMENTED = [name for name in pipeline.__all__ if inspect.isclass(getattr(pipeline, name)) or callable(getattr(pipeline, name))]
ALIASES = {"Batch", "Energy"}
"""Type aliases, which have no docstring of their own."""


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if name not in ALIASES])
def test_a_public_name_has_an_example_that_runs(name):
    thing = getattr(pipeline, name)
    module = sys.modules[thing.__module__]
    tests = [t for t in doctest.DocTestFinder(recurse=False).find(thing, name, module=module, globs={**vars(module)})]
    examples = [example for test in tests for example in test.examples]
    assert examples, f"{name} has no example"
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
        runner.run(test)
    assert runner.failures == 0


def test_the_package_imports_nothing_until_a_name_is_used():
    code = "import sys, pipeline; assert 'torch' not in sys.modules; pipeline.Langevin; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Langevn'"):
        _ = pipeline.Langevn
