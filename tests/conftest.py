"""Fixtures for all tests."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from enclave_sim.machine import Machine, create, start

if TYPE_CHECKING:
    from local_run import Attester

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


@pytest.fixture(scope="module")
def attester(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Attester]":
    """A software TPM of the module's own, with keys that are enrolled for its user."""
    from local_run import enrolled
    from raw_swtpm import running_swtpm

    home = tmp_path_factory.mktemp("home")
    with running_swtpm() as swtpm, enrolled(swtpm, home) as attester:
        yield attester
