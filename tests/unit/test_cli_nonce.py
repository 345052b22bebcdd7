"""`laminator nonce`, the --nonce option, and `laminator verify` with a nonce of the store."""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import verifier_desk

from laminator.cli.main import main
from laminator.cli.nonce_option import parse_nonce
from laminator.digest import sha256
from laminator.errors import MachineError, UsageError
from laminator.nonce import store as nonce_store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str | None]]:
    capsys.readouterr()
    assert main(["nonce", "list", "--json"]) == 0
    nonces: list[dict[str, str | None]] = json.loads(capsys.readouterr().out)["nonces"]
    return nonces


def test_issuing_writes_one_line_and_keeps_a_record(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = os.umask(0)
    try:
        assert main(["nonce", "issue", "--out", "challenge", "--json"]) == 0
    finally:
        os.umask(old)
    facts = json.loads(capsys.readouterr().out)
    text = (home / "challenge").read_text("ascii")
    assert re.fullmatch(r"[0-9a-f]{64}\n", text)
    assert facts["nonce"] == text.strip()
    assert parse_nonce("challenge") == parse_nonce(text.strip())
    assert stat.S_IMODE((home / "data/laminator/nonces").stat().st_mode) == 0o700
    (entry,) = nonce_store.entries(nonce_store.default_store())
    assert (entry.expires - entry.issued).days == 7
    assert _listed(capsys) == [facts | {"state": "open", "card": None, "accepted": None}]


def test_nonces_differ_and_are_listed_oldest_first(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, valid in enumerate(("1s", "2h", "52w")):
        assert main(["nonce", "issue", "--out", f"n{number}", "--valid", valid]) == 0
    listed = _listed(capsys)
    assert len({each["nonce"] for each in listed}) == 3
    assert [each["issued"] for each in listed] == sorted(str(each["issued"]) for each in listed)
    assert main(["nonce", "list"]) == 0
    printed = capsys.readouterr().out
    assert (home / "n1").read_text("ascii").strip() in printed
    assert len(printed.splitlines()) == 3


@pytest.mark.usefixtures("home")
def test_an_empty_store_lists_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonce", "list"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no nonce" in printed.err
    assert _listed(capsys) == []


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("valid", ["", "0d", "-1d", "7", "d", "7 d", "1y", "9999999w", "٣d"])
def test_a_duration_that_is_none(valid: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonce", "issue", "--out", "n", f"--valid={valid}"]) == 2
    assert "--valid" in capsys.readouterr().err
    assert not Path("n").exists()
    assert nonce_store.entries(nonce_store.default_store()) == []


def test_issuing_overwrites_nothing(home: Path) -> None:
    (home / "there").write_text("precious", encoding="ascii")
    (home / "link").symlink_to("elsewhere")
    for out in ("there", "link", "missing/n", "."):
        assert main(["nonce", "issue", "--out", out]) == 2
    assert (home / "there").read_text("ascii") == "precious"
    assert not (home / "elsewhere").exists()
    assert nonce_store.entries(nonce_store.default_store()) == []


def test_a_nonce_that_cannot_be_recorded_is_not_issued(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "data").write_text("a file", encoding="ascii")
    assert main(["nonce", "issue", "--out", "n"]) == 2
    assert "store of nonces" in capsys.readouterr().err
    assert not (home / "n").exists()


def test_a_store_of_somebody_else_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nonce", "issue", "--out", "n"]) == 0
    store = home / "data/laminator/nonces"
    store.chmod(0o770)
    assert main(["nonce", "list"]) == 2
    assert "chmod 700" in capsys.readouterr().err
    store.chmod(0o700)
    store.rename(home / "moved")
    store.symlink_to(home / "moved")
    assert main(["nonce", "list"]) == 2


def test_a_relative_data_folder_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert nonce_store.default_store() == str(tmp_path / ".local/share/laminator/nonces")


def test_a_mark_that_vanishes_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["nonce", "issue", "--out", "n"]) == 0
    nonce = parse_nonce("n")
    assert nonce is not None

    def taken(*_: object, **__: object) -> None:
        raise FileExistsError

    monkeypatch.setattr("os.link", taken)
    with pytest.raises(MachineError) as caught:
        nonce_store.mark_used(
            nonce_store.default_store(), nonce, sha256(b"card"), verifier_desk.LONG_AGO
        )
    assert caught.value.code == "nonce.store"
    assert home.joinpath("n").exists()


def test_a_store_has_a_size(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        assert main(["nonce", "issue", "--out", str(home / f"{number}")]) == 0
    monkeypatch.setattr(nonce_store, "MAX_ENTRIES", 3)
    assert main(["nonce", "list"]) == 0
    monkeypatch.setattr(nonce_store, "MAX_ENTRIES", 2)
    assert main(["nonce", "list"]) == 2


# The option.


def _put(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_hex_is_hex_and_a_path_is_a_file(home: Path) -> None:
    (home / "00112233445566aa").write_bytes(b"ff" * 9)
    assert parse_nonce("00112233445566AA") == bytes.fromhex("00112233445566aa")
    assert parse_nonce("./00112233445566aa") == b"\xff" * 9
    assert parse_nonce(_put(home / "n", b"ab" * 64 + b"\r\n")) == b"\xab" * 64
    (home / "link").symlink_to("n")
    assert parse_nonce("link") == b"\xab" * 64


@pytest.mark.parametrize(
    "word", ["", "xyz", "00", "000", "0" * 17, "00" * 65, "00 " * 32, "0x" + "00" * 8, "a\0b"]
)
@pytest.mark.usefixtures("home")
def test_words_that_are_no_nonce(word: str) -> None:
    with pytest.raises(UsageError, match="8 to 64 bytes"):
        parse_nonce(word)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"ab" * 32 + b"\n" + b"cd" * 32 + b"\n",
        b"ab" * 32 + b"\n\n",
        b"\n" + b"ab" * 32,
        b"ab" * 16 + b" " + b"ab" * 16,
        b" " + b"ab" * 32,
        b"ab" * 32 + b" ",
        b"\xef\xbb\xbf" + b"ab" * 32,
        bytes(range(128, 192)),
        b"ab" * 65,
        b"ab" * 1_000_000,
        b"a" * 63,
        b"\xd9\xa0" * 16,
    ],
)
def test_files_that_hold_no_nonce(home: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match="8 to 64 bytes"):
        parse_nonce(_put(home / "n.txt", content))


def test_things_that_are_no_files(home: Path) -> None:
    os.mkfifo(home / "pipe")
    for path in (".", "pipe", "/dev/zero", "missing.txt", "../missing"):
        with pytest.raises(UsageError, match="8 to 64 bytes"):
            parse_nonce(path)


# Verifying.


@pytest.fixture
def issued(home: Path) -> list[str]:
    """Issue a nonce, lay cards 7 and 8 with it; return the options of `verify`."""
    assert main(["nonce", "issue", "--out", "challenge"]) == 0
    nonce = parse_nonce("challenge")
    assert nonce is not None
    for number in (7, 8):
        (home / f"{number}.card").write_bytes(verifier_desk.card_with(nonce, number))
    return [*verifier_desk.lay_out(home), "--nonce", "challenge"]


def test_the_first_accepted_card_has_the_nonce(
    issued: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "7.card", *issued]) == 0
    (listed,) = _listed(capsys)
    assert listed["state"] == "used"
    assert str(listed["card"]).startswith("sha-256:")
    assert main(["verify", "8.card", *issued]) == 1
    printed = capsys.readouterr()
    assert "nonce.use" in printed.out
    assert "a nonce is for one card" in printed.err
    assert main(["verify", "7.card", *issued]) == 0
    assert _listed(capsys) == [listed]


def test_a_rejected_card_leaves_the_nonce_open(
    issued: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "7.card", *issued, "--artifact", "model=7.card"]) == 1
    assert _listed(capsys)[0]["state"] == "open"
    assert main(["verify", "8.card", *issued]) == 0


def test_two_cards_in_one_call(issued: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "7.card", "8.card", *issued]) == 1
    assert _listed(capsys)[0]["state"] == "open"
    assert main(["verify", "7.card", "7.card", *issued]) == 0


def test_an_expired_nonce(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = nonce_store.default_store()
    nonce = nonce_store.add_issued(store, verifier_desk.LONG_AGO, verifier_desk.LONG_AGO)
    (home / "x.card").write_bytes(verifier_desk.card_with(nonce))
    words = ["verify", "x.card", *verifier_desk.lay_out(home), "--nonce", nonce.hex()]
    assert main(words) == 1
    assert "nonce.expiry" in capsys.readouterr().out
    assert _listed(capsys)[0]["state"] == "expired"


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("os.link", refuse)
        yield


@pytest.mark.usefixtures("unwritable")
def test_no_acceptance_without_a_mark(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = home / "data/laminator/nonces"
    nonce = bytes(range(32))
    store.mkdir(parents=True, mode=0o700)
    times = "issued 2026-01-01T00:00:00Z\nexpires 9999-01-01T00:00:00Z\n"
    entry = f"laminator-nonce-v1\nnonce {nonce.hex()}\n{times}"
    (store / f"{nonce.hex()}.issued").write_text(entry, encoding="ascii")
    (home / "x.card").write_bytes(verifier_desk.card_with(nonce))
    words = ["verify", "x.card", *verifier_desk.lay_out(home), "--nonce", nonce.hex()]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "store of nonces" in printed.err
    assert [path.name for path in store.iterdir()] == [f"{nonce.hex()}.issued"]


@pytest.mark.parametrize("time", ["2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z"])
def test_a_record_with_a_time_that_is_none(
    home: Path, time: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = home / "data/laminator/nonces"
    store.mkdir(parents=True, mode=0o700)
    name = "ab" * 32
    entry = f"laminator-nonce-v1\nnonce {name}\nissued {time}\nexpires {time}\n"
    (store / f"{name}.issued").write_text(entry, encoding="ascii")
    assert main(["nonce", "list"]) == 2
    assert f"{name}.issued" in capsys.readouterr().err


def test_a_nonce_from_elsewhere_is_untracked(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nonce", "issue", "--out", "mine"]) == 0
    capsys.readouterr()
    (home / "x.card").write_bytes(verifier_desk.card_with(b"n" * 32))
    words = ["verify", "x.card", *verifier_desk.lay_out(home), "--nonce", (b"n" * 32).hex()]
    assert main([*words, "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["results"][0]["checks"]
    (use,) = (check for check in checks if check["id"] == "nonce.use")
    assert use["verdict"] == "not-applicable"
