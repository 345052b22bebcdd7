"""The tool that removes checks one at a time, on a sample of two checks and one test."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = b"""\
def sign(value):
    if value < 0:
        return failed("sample.sign", f"{value} is negative: \xc3\xa9")
    return passed("sample.sign", "positive")


def even(value):
    found = passed if value % 2 == 0 else failed
    return found("sample.even", "even or not")


def read(value):
    if value > 9:
        raise MalformedError(
            "sample.size", "too large"
        ) from None
    return value
"""
HELPERS = b"""\
from typing import NamedTuple


class Check(NamedTuple):
    id: str
    verdict: str


def passed(id_, detail):
    return Check(id_, "pass")


def failed(id_, detail):
    return Check(id_, "fail")


class MalformedError(Exception):
    pass


"""
TEST = """\
import pytest
import sample


def test_sign():
    assert sample.sign(-1).verdict == "fail"
"""


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts/mutate-checks"))


def changed(source: bytes, mutant: Any) -> str:
    mutated: bytes = source[: mutant.start] + mutant.text.encode() + source[mutant.end :]
    return mutated.decode()


def test_every_verdict_and_every_raise_is_a_mutant(tool: dict[str, Any]) -> None:
    found = {mutant.check: mutant for mutant in tool["verdict_mutants"]("sample.py", SAMPLE)}
    assert {id_: mutant.line for id_, mutant in found.items()} == {
        "sample.sign": 3,
        "sample.size": 14,
    }
    assert 'negative: é")._replace(verdict="pass")\n' in changed(SAMPLE, found["sample.sign"])
    assert "    if value > 9:\n        pass\n    return" in changed(SAMPLE, found["sample.size"])


def test_a_mutant_is_killed_or_survives_and_leaves_no_trace(
    tool: dict[str, Any], tmp_path: Path
) -> None:
    source = HELPERS + SAMPLE
    (tmp_path / "sample.py").write_bytes(source)
    (tmp_path / "test_sample.py").write_text(TEST, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    mutants = {mutant.check: mutant for mutant in tool["verdict_mutants"]("sample.py", source)}
    tests = ("test_sample.py",)
    assert tool["run_tests"](tmp_path, tests) == tool["SURVIVED"]
    killed = tool["judge"](tmp_path, mutants["sample.sign"], tests)
    assert killed == "test_sample.py::test_sign"
    assert tool["judge"](tmp_path, mutants["sample.size"], tests) == tool["SURVIVED"]
    assert (tmp_path / "sample.py").read_bytes() == source


def test_a_check_id_switched_off_passes_and_others_still_fail(tool: dict[str, Any]) -> None:
    source = (ROOT / tool["CHECK"]).read_bytes()
    (mutant,) = tool["check_mutants"](("tpm.magic",), source)
    names: dict[str, Any] = {"__name__": "mutated"}
    exec(changed(source, mutant), names)  # noqa: S102 - the mutant itself
    assert names["failed"]("tpm.magic", "")[1] == "pass"
    assert names["not_checked"]("tpm.magic", "")[1] == "pass"
    assert names["failed"]("tpm.type", "")[1] == "fail"


def test_the_verifiers_checks_are_found_with_tests_for_each(tool: dict[str, Any]) -> None:
    ids = tool["check_ids"](ROOT)
    assert {"tpm.magic", "ak.revocation", "policy.root", "run.counter.value", "card.parse"} <= {
        *ids
    }
    for mutant in tool["mutants"](ROOT, ("checks", *tool["MODULES"])):
        assert tool["tests_for"](ROOT, mutant.module)


def test_weaknesses_and_parts_of_conditions_are_mutants(tool: dict[str, Any]) -> None:
    source = b'def _weakness(a, b):\n    return "bad" if a or b else ""\n'
    assert [changed(source, mutant) for mutant in tool["verdict_mutants"]("x.py", source)] == [
        'def _weakness(a, b):\n    return "" if a or b else ""\n'
    ]
    assert [changed(source, mutant) for mutant in tool["condition_mutants"]("x.py", source)] == [
        'def _weakness(a, b):\n    return "bad" if False or b else ""\n',
        'def _weakness(a, b):\n    return "bad" if a or False else ""\n',
    ]


def test_tests_that_name_a_check_are_tried_first(tool: dict[str, Any], tmp_path: Path) -> None:
    for name, text in {
        "a.py": "",
        "b.py": '"tpm.magic"',
        "relay_attacks.py": '"tpm.magic"',
    }.items():
        (tmp_path / name).write_text(text, "utf-8")
    tests = ("a.py", "b.py", "relay_attacks.py")
    ordered = tool["naming_first"](tmp_path, tests, "tpm.magic")
    assert ordered == ("b.py", "a.py", "relay_attacks.py")
