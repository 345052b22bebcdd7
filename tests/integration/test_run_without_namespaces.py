"""Measured runs where namespaces are forbidden: another user, or no separation at all.

The attester's work is done in this process, so that the tests can choose the separation.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_run import COUNTER_SECRET, enrolled
from raw_swtpm import running_swtpm

from laminator.attest.tpm import HierarchyAuths
from laminator.card import Card, parse_card
from laminator.claims import Isolation, Launch, Property
from laminator.evidence.tpm_structures import RUN_COUNTER_INDEX
from laminator.run import session
from laminator.run.attester import attest
from laminator.run.local_tpm import load_certificates
from laminator.run.outcome import Outcome
from laminator.run.request import RunRequest
from laminator.run.run_list import RunRecord
from laminator.run.sandbox import NONE, OTHER_USER, UID, Sandbox
from laminator.run.setup import Setup

SYSTEM_PYTHON = Path("/usr/bin/python3")
SCRIPT = """
import helper
from laminator import workload
rows = open(workload.input("train")).read()
open(workload.output("model"), "w").write(rows + helper.TEXT)
workload.report("loss", 0.5)
"""


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    home = tmp_path_factory.mktemp("home")
    with running_swtpm() as swtpm, enrolled(swtpm, home):
        yield Setup(
            tpm=swtpm.tcti,
            auths=HierarchyAuths(counter=COUNTER_SECRET),
            counter_index=RUN_COUNTER_INDEX,
            launch=Launch("none"),
            enrol_fd=None,
            certificates=load_certificates(home / "data" / "laminator" / "ak"),
            simulated=True,
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "train.py").write_text(SCRIPT)
        (folder / "helper.py").write_text("TEXT = 'more'")
        (folder / "data.csv").write_text("rows")
        yield folder


def run_separated(
    setup: Setup, folder: Path, separation: str, monkeypatch: pytest.MonkeyPatch
) -> Outcome:
    sandbox = Sandbox(separation, ("bwrap",), "forced by a test")
    monkeypatch.setattr(session, "probe", lambda _: sandbox)
    request = RunRequest(
        verb="run",
        argv=(sys.executable, "train.py"),
        script=1,
        cwd=str(folder),
        kind="training",
        card=str(folder / "train.card"),
        inputs={"train": str(folder / "data.csv")},
        outputs={"model": str(folder / "model.bin")},
    )
    return attest(setup, request, RunRecord(None, ticket="", card=""))


def card(folder: Path) -> Card:
    return parse_card((folder / "train.card").read_bytes())


def test_without_separation_the_claims_say_so(
    setup: Setup, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run_separated(setup, folder, NONE, monkeypatch)
    assert outcome.word == "card", outcome.message
    claims = card(folder).claims
    assert claims.isolation.separation == "none"
    assert claims.isolation.namespaces == ()
    assert claims.isolation.network
    assert [item.source for item in claims.properties] == ["reported"]
    assert (folder / "model.bin").read_text() == "rowsmore"


def test_without_separation_nothing_is_measured() -> None:
    measured = Property("accuracy", 0.9, "measured", "laminator.accuracy")
    nothing = Isolation("none", (), no_new_privs=False, attester_dumpable=False, network=True)
    apart = nothing._replace(separation="namespaces")
    assert session._believable(measured, nothing).source == "reported"
    assert session._believable(measured, apart).source == "measured"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a workload as another user")
def test_an_environment_closed_to_the_other_user_is_said(
    setup: Setup, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.chmod(0o700)
    locked = folder / "python"
    locked.symlink_to(Path(sys.executable).resolve())
    monkeypatch.setattr(sys, "executable", str(locked))
    outcome = run_separated(setup, folder, UID, monkeypatch)
    assert outcome.word == "failed"
    assert f"user {OTHER_USER} cannot read" in outcome.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a workload as another user")
@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs a Python that everybody can read")
def test_another_user_is_a_separation(
    setup: Setup, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.chmod(0o777)
    (folder / "train.py").write_text(
        "import os\n"
        "rows = open('data.csv').read()\n"
        "open('model.bin', 'w').write(f'{os.getuid()} {rows}')\n"
    )
    monkeypatch.setattr(sys, "executable", str(SYSTEM_PYTHON))
    outcome = run_separated(setup, folder, UID, monkeypatch)
    assert outcome.word == "card", outcome.message
    isolation = card(folder).claims.isolation
    assert (isolation.separation, isolation.no_new_privs) == ("uid", True)
    assert (folder / "model.bin").read_text() == f"{OTHER_USER} rows"
