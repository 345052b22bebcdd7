"""The small steps of a run: setup, command line, disclosure, atomic files, outcomes, pins."""

import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from laminator.attest.tpm import AttestationTpm, HierarchyAuths, SignedAttest
from laminator.claims import Launch
from laminator.cli.main import main
from laminator.digest import sha256
from laminator.errors import MachineError, MalformedError, UsageError
from laminator.eventlog import begin_record, end_record, replay
from laminator.measure.environment import commitment
from laminator.run import entry
from laminator.run.atomic import File, write_together
from laminator.run.attestation import Attestation, quote_log
from laminator.run.bubblewrap import attester_copy, bubblewrap
from laminator.run.command import parse_command
from laminator.run.disclosure import disclose, private_file
from laminator.run.filesystem import Bind, Filesystem, Link
from laminator.run.log import RunLog
from laminator.run.outcome import ending, interrupted, workload_failed
from laminator.run.pinned import MAX_ENTRIES, is_small, pin
from laminator.run.progress import size_text, tell, working
from laminator.run.setup import Setup, encode_setup, parse_setup

SETUP = Setup(
    tpm=5,
    auths=HierarchyAuths(endorsement=b"e", owner=b"o", counter=b"c"),
    counter_index=0x1801A4D,
    launch=Launch("drtm-simulated", sha256(b"launch")),
    enrol_fd=6,
    certificates=None,
    simulated=True,
)

# --- setup


@pytest.mark.parametrize(
    "setup",
    [
        SETUP,
        SETUP._replace(tpm="device:/dev/tpmrm0", enrol_fd=None, certificates=(b"a", b"b")),
        SETUP._replace(launch=Launch("none"), simulated=False),
    ],
)
def test_setup_is_read_as_written(setup: Setup) -> None:
    assert parse_setup(encode_setup(setup)) == setup


@pytest.mark.parametrize(
    "change",
    [
        {"tpm": {}},
        {"tpm": {"fd": "5"}},
        {"tpm": {"fd": True}},
        {"auth": {"endorsement": "zz", "owner": "", "counter": ""}},
        {"auth": {}},
        {"counter_index": "1"},
        {"counter_index": "1" * 5000},
        {"launch": {"type": "none", "digest": "md5:00"}},
        {"launch": None},
        {"launch": {"type": "drtm-other", "digest": None}},
        {"launch": {"type": ["none"], "digest": None}},
        {"enrol_fd": "6"},
        {"ak_certificates": ["zz"]},
        {"ak_certificates": 5},
    ],
)
def test_a_damaged_setup_is_refused(change: dict[str, Any]) -> None:
    plain = json.loads(encode_setup(SETUP)) | change
    with pytest.raises(MalformedError) as caught:
        parse_setup(json.dumps(plain).encode())
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"5", b"[" * 5000])
def test_a_setup_that_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_setup(data)


# --- the command line


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "train.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return "train.py"


@pytest.mark.parametrize(
    ("flags", "position"),
    [
        ((), 1),
        (("-u",), 2),
        (("-I", "-S", "-E"), 4),
        (("-W", "error", "-X", "dev", "-OO"), 6),
        (("-Werror", "-Xdev"), 3),
        (("-W", "-c"), 3),
        (("-W", "ignore::DeprecationWarning", "-Xint_max_str_digits=0"), 4),
    ],
)
def test_the_script_is_the_first_word_after_the_flags(
    script: str, flags: tuple[str, ...], position: int
) -> None:
    command = parse_command((sys.executable, *flags, script, "-m", "x"))
    assert command.script == position
    assert command.argv[0] == sys.executable
    assert command.argv[1:] == (*flags, script, "-m", "x")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), "command.empty"),
        (("train.py",), "command.interpreter"),
        (("./run.sh", "train.py"), "command.interpreter"),
        (("python9.99", "train.py"), "interpreter.missing"),
        ((sys.executable,), "command.script"),
        ((sys.executable, "-u"), "command.script"),
        ((sys.executable, "missing.py"), "command.script"),
        ((sys.executable, "-m", "train"), "command.flag"),
        ((sys.executable, "-um", "train"), "command.flag"),
        ((sys.executable, "-c", "pass"), "command.flag"),
        ((sys.executable, "-"), "command.flag"),
        ((sys.executable, "--", "train.py"), "command.flag"),
        ((sys.executable, "-BX", "train.py", "evil.py"), "command.flag"),
        ((sys.executable, "-BW", "train.py", "evil.py"), "command.flag"),
        ((sys.executable, "-uB", "train.py"), "command.flag"),
        ((sys.executable, "-i", "train.py"), "command.flag"),
        ((sys.executable, "-x", "train.py"), "command.flag"),
        ((sys.executable, "--check-hash-based-pycs", "never", "train.py"), "command.flag"),
        ((sys.executable, "-X", "train.py"), "command.flag"),
        ((sys.executable, "-X"), "command.flag"),
        ((sys.executable, "-W"), "command.script"),
        ((sys.executable, "-X", "presite=evil", "train.py"), "command.flag"),
        ((sys.executable, "-Xpycache_prefix=there", "train.py"), "command.flag"),
        ((sys.executable, "-W", "ignore::evil.Category", "train.py"), "command.flag"),
        ((sys.executable, "-Wignore::evil.Category", "train.py"), "command.flag"),
    ],
)
@pytest.mark.usefixtures("script")
def test_a_command_that_cannot_be_measured(words: tuple[str, ...], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_command(words)
    assert caught.value.code == code


@pytest.mark.parametrize("long", ["x" * 300, "a/" * 3000 + "x"])
def test_a_path_that_no_file_can_have_is_named(
    long: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--", sys.executable, long]) == 125
    assert "cannot use" in (said := capsys.readouterr().err)
    assert len(said) < 500


# --- disclosure


def test_commitments_are_salted_and_opened_by_the_private_file() -> None:
    disclosed = disclose(["--x", "--x"], {"SEED": "7"}, public=False)
    opened = json.loads(private_file(disclosed, b"\1" * 32))
    assert disclosed.arguments[0] != disclosed.arguments[1]
    for claimed, opening in zip(disclosed.arguments, opened["arguments"], strict=True):
        assert claimed == commitment(bytes.fromhex(opening["salt"]), opening["value"])
    seed = opened["environment"]["SEED"]
    assert disclosed.environment["SEED"] == commitment(bytes.fromhex(seed["salt"]), "7")
    assert opened["card"] == "01" * 32


def test_public_values_need_no_opening() -> None:
    disclosed = disclose(["--x"], {"SEED": "7"}, public=True)
    assert (disclosed.arguments, disclosed.environment) == (("--x",), {"SEED": "7"})
    assert disclosed.is_public


# --- atomic files


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    card, private = tmp_path / "train.card", tmp_path / "train.card.private"
    card.write_text("old")
    write_together([File(private, b"salts", 0o600), File(card, b"new", 0o644)])
    assert (card.read_bytes(), private.read_bytes()) == (b"new", b"salts")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert sorted(tmp_path.iterdir()) == [card, private]


def test_a_failed_write_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, private = tmp_path / "train.card", tmp_path / "train.card.private"
    card.write_text("old")
    synced: list[int] = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"train\.card'.*no space left"):
        write_together([File(private, b"salts", 0o600), File(card, b"new", 0o644)])
    assert card.read_text() == "old"
    assert list(tmp_path.iterdir()) == [card]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write"):
        write_together([File(tmp_path / "nowhere" / "x", b"", 0o600)])


# --- outcomes


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (3, "ended with exit status 3"),
        (128, "ended with exit status 128"),
        (137, "out of memory"),
        (139, "SIGSEGV"),
        (250, "ended with exit status 250"),
    ],
)
def test_endings_in_words(status: int, said: str) -> None:
    assert said in ending(status)
    assert workload_failed(status).status == status


def test_a_signal_s_outcome() -> None:
    assert interrupted(2).status == 130
    assert "SIGINT" in interrupted(2).message
    assert "signal 40" in interrupted(40).message


# --- the log's PCR


class Tpm:
    """A TPM whose PCR 23 somebody else may extend as well."""

    def __init__(self) -> None:
        self.pcr = bytes(32)

    def reset_log(self) -> None:
        self.pcr = bytes(32)

    def extend_log(self, digest: bytes) -> None:
        self.pcr = hashlib.sha256(self.pcr + digest).digest()

    def read_pcr(self, _: int) -> bytes:
        return self.pcr

    def quote(self, pcrs: tuple[int, ...], qualifying_data: bytes) -> SignedAttest:
        return SignedAttest(repr(pcrs).encode(), qualifying_data)


def test_the_log_s_head_is_its_pcr_s_value() -> None:
    tpm = cast("AttestationTpm", Tpm())
    attestation = Attestation(tpm, (), b"", 0, Launch("none"))
    log = RunLog(tpm)
    log.append(begin_record(), end_record())
    assert log.head == replay([begin_record(), end_record()]) == tpm.read_pcr(23)
    assert quote_log(attestation, log, b"binding") == SignedAttest(b"(23,)", b"binding")


def test_a_pcr_that_somebody_else_extended_is_not_quoted() -> None:
    tpm = cast("AttestationTpm", Tpm())
    log = RunLog(tpm)
    log.append(begin_record())
    tpm.extend_log(bytes(32))
    attestation = Attestation(tpm, (), b"", 0, Launch("drtm-simulated", sha256(b"")))
    assert attestation.pcrs == (17, 23)
    with pytest.raises(MachineError) as caught:
        quote_log(attestation, log, b"binding")
    assert caught.value.code == "log.pcr"


# --- pins


def test_folders_above_a_copy_are_made_anew(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "data" / "more").mkdir(parents=True)
    for name in ("train.py", "helper.py", "data/rows.csv", "data/other.csv"):
        (work / name).write_text("")
    (work / "link").symlink_to("data")
    os.mkfifo(work / "fifo")
    copy = Bind(tmp_path / "copy", work / "data" / "rows.csv")
    whole = Filesystem(read_only=(Bind(Path("/usr"), Path("/usr")), Bind(work, work), copy))
    pinned = pin(whole, [copy.target])
    same = [work / "helper.py", work / "train.py", work / "data/more", work / "data/other.csv"]
    assert set(pinned.read_only) == {
        Bind(Path("/usr"), Path("/usr")),
        copy,
        *(Bind(path, path) for path in same),
    }
    assert set(pinned.folders) == {work, work / "data"}
    assert pinned.links == (Link(work / "link", "data"),)


def test_too_many_entries_are_said(tmp_path: Path) -> None:
    for number in range(MAX_ENTRIES + 1):
        (tmp_path / str(number)).touch()
    assert not is_small(tmp_path)
    with pytest.raises(UsageError, match="elsewhere"):
        pin(Filesystem(read_only=(Bind(tmp_path, tmp_path),)), [tmp_path / "0"])


def test_a_thin_folder_shows_its_copies_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(MAX_ENTRIES + 1):
        (data / str(number)).touch()
    copy = Bind(tmp_path / "copy", data / "0")
    whole = Filesystem(read_only=(Bind(tmp_path, tmp_path), copy))
    pinned = pin(whole, [copy.target], {data})
    assert pinned.read_only == (copy,)
    assert pinned.folders == (tmp_path, data)


# --- around


def test_bubblewrap_is_the_system_s_outside_of_a_copy() -> None:
    assert attester_copy() is None
    assert bubblewrap() == ("bwrap",)


def test_a_copy_runs_its_own_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("bin/python3", "bin/bwrap", "so/ld-linux-x86-64.so.2"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3"))
    linker, option, libraries, program = bubblewrap()
    assert (linker, program) == (
        str(tmp_path / "so" / "ld-linux-x86-64.so.2"),
        str(tmp_path / "bin" / "bwrap"),
    )
    assert (option, libraries) == ("--library-path", str(tmp_path / "so"))


def test_an_unknown_role_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["shell"]) == 2
    assert "laminator run" in capsys.readouterr().err


def test_progress_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    tell("measuring")
    with working("starting"):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**41, "2.0 TiB")]
)
def test_sizes_that_people_read(size: int, text: str) -> None:
    assert size_text(size) == text
