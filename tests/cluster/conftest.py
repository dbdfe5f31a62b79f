"""Fixtures of the tests that start clusters of their own."""

from pathlib import Path

import hosts
import pytest


@pytest.fixture(scope="session")
def can_make_hosts():
    """Skip, with the reason, where there can be no hosts."""
    if why := hosts.missing():
        pytest.skip(why)


@pytest.fixture
def machines(can_make_hosts, tmp_path):
    """Makes hosts without Ray: `machines(3)`. They end with the test."""
    made = []

    def make(count, **env):
        made.append(hosts.hosts(count, tmp_path / "hosts", **env))
        return made[-1].__enter__()

    yield make
    for one in made:
        one.__exit__(None, None, None)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
