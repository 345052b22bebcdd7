"""Fixtures for tests that talk to a software TPM."""

from collections.abc import Iterator

import pytest
from raw_swtpm import RawSwtpm, running_swtpm


@pytest.fixture(scope="session")
def raw_swtpm() -> Iterator[RawSwtpm]:
    """One software TPM for the whole session; tests leave its hierarchies' auths empty."""
    with running_swtpm() as swtpm:
        yield swtpm


@pytest.fixture
def fresh_swtpm() -> Iterator[RawSwtpm]:
    """A software TPM for one test, which may do to it as it likes."""
    with running_swtpm() as swtpm:
        yield swtpm
