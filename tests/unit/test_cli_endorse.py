"""`laminator endorse`, as an auditor uses it."""

import json
from pathlib import Path

import pytest

from laminator.cli.main import main
from laminator.cose import parse_sign1
from laminator.digest import sha256
from laminator.endorsement import parse_endorsement, parse_revocations


def endorse(folder: Path, *words: str) -> int:
    secret = folder / "passphrase"
    secret.write_text("secret\n")
    return main(["endorse", *words, "--passphrase-file", str(secret)])


def test_a_measurer_is_endorsed_and_withdrawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, script, out = (str(tmp_path / name) for name in ("k.pem", "eval.py", "out"))
    Path(script).write_bytes(b"print(1)")
    assert endorse(tmp_path, "keygen", "--out", key) == 0
    with_key = ("--key", key, "--out", out)
    words = ("measurer", "--file", script, "--measures", "accuracy", *with_key)
    assert endorse(tmp_path, *words) == 0
    found = parse_endorsement(parse_sign1(Path(out).read_bytes()).payload)
    assert (found.digest, found.measures) == (sha256(b"print(1)"), ("accuracy",))
    capsys.readouterr()
    assert main(["endorse", "show", out, "--json"]) == 0
    assert found.id.hex() in json.loads(capsys.readouterr().out)["content"]
    assert endorse(tmp_path, "revoke", "--id", found.id.hex(), *with_key) == 0
    again = ("revoke", "--id", "ab" * 16, "--previous", out, *with_key)
    assert endorse(tmp_path, *again) == 0
    listed = parse_revocations(parse_sign1(Path(out).read_bytes()).payload)
    assert set(listed.reasons) == {found.id, bytes.fromhex("ab" * 16)}
    assert endorse(tmp_path, "revoke", "--id", "xy", *with_key) == 2


def test_what_is_not_signed_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    assert main(["endorse", "show", str(tmp_path / "junk")]) == 1
