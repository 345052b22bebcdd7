"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from enclave_sim.machine import Machine, create, start

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One started simulated machine for the whole session; it is off when the session ends.

    Tests may launch attesters on it and reset it, and expect of its counter only that it grows.
    """
    folder = tmp_path_factory.mktemp("machines") / "machine"
    create(folder)
    with start(folder) as started:
        yield started
