"""The verifier's half imports nothing heavy, and nothing of the prover's."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import forge
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from verifying import LAUNCH_DIGEST, world

import laminator
from laminator.claims import Property

HEAVY = {
    "torch",
    "numpy",
    "tpm2_pytss",
    "safetensors",
    "onnxruntime",
    "rich",
    "enclave_sim",
    "OpenSSL",
    # Each costs milliseconds that the verifier's start does not have.
    "dataclasses",
    "pathlib",
    "inspect",
    "json",
    "logging",
    "tempfile",
    "subprocess",
    "shutil",
    "cryptography.hazmat.primitives.serialization.ssh",
}
PROVER = (
    "laminator.attest",
    "laminator.enroll",
    "laminator.measure",
    "laminator.run",
    "laminator.properties",
    "laminator.records",
    "laminator.references",
    "laminator.timestamp",
    "laminator.workload",
)
POLICY = f"""\
version = 1
roots = ["simulated"]
coverage = "launch"
data-chosen-by = "provider"
[reference]
launch = ["{LAUNCH_DIGEST}"]
"""
CODE = """\
import sys
from laminator.cli.main import main
status = main(sys.argv[1:])
print("\\n".join(sorted(sys.modules)), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("verify")
    (folder / "crls").mkdir()
    machine = forge.machine()
    (anchor,) = machine.trust.anchors
    (folder / "root.pem").write_bytes(anchor.certificate.public_bytes(Encoding.PEM))
    for number, crl in enumerate(machine.trust.crls):
        (folder / "crls" / f"{number}.crl").write_bytes(crl.public_bytes(Encoding.DER))
    (folder / "x.card").write_bytes(forge.card_bytes(world()))
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    options = ["--trust", str(folder), "--policy", str(folder / "policy.toml")]
    return ["verify", str(folder / "x.card"), *options, "--at", forge.NOW.isoformat()]


def _run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(laminator.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    # -S leaves out what this environment's own start imports (the hook of an editable install).
    site = next(path for path in sys.path if path.endswith("site-packages"))
    environment["PYTHONPATH"] = os.pathsep.join((root, site))
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_verifying_imports_nothing_heavy(arguments: list[str]) -> None:
    ran = _run(CODE, *arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    modules = set(ran.stderr.split())
    assert "laminator.appraise.tpm_evidence" in modules
    assert modules & HEAVY == set()
    of_the_prover = tuple(f"{name}." for name in PROVER)
    assert [name for name in modules if f"{name}.".startswith(of_the_prover)] == []


def test_nothing_of_laminator_imports_the_adversary() -> None:
    sources = list(Path(laminator.__file__).parent.rglob("*.py"))
    assert len(sources) > 100
    for source in sources:
        for node in ast.walk(ast.parse(source.read_bytes())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in getattr(node, "names", ()) if hasattr(each, "name")]
            assert not any("adversary" in name for name in names), source


def test_package_imports_nothing() -> None:
    ran = _run("import sys, laminator; print(*[m for m in sys.modules if 'laminator' in m])")
    assert ran.stdout.split() == ["laminator"]


def test_console_prints_and_exits_with_the_verdict(arguments: list[str]) -> None:
    code = "import sys\nfrom laminator.cli.main import console\nconsole()\n"
    ran = _run(code, *arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ": ACCEPTED under policy" in ran.stdout
    rejected = _run(code, *arguments[:-2], "--at", "2000-01-01T00:00:00Z")
    assert rejected.returncode == 1
    assert "REJECTED" in rejected.stdout
    assert "laminator verify: " in rejected.stderr


def test_reader_that_leaves_ends_the_command_quietly(arguments: list[str]) -> None:
    code = """\
import os, sys
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
from laminator.cli.main import console
console()
"""
    ran = _run(code, *arguments)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_an_accepted_card_without_output_does_not_look_rejected(arguments: list[str]) -> None:
    console = "from laminator.cli.main import console\nconsole()\n"
    full = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
    ran = _run(full + console, *arguments)
    message = "laminator verify: cannot write the output: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (2, message)
    ran = _run("import sys\nsys.stdout = None\n" + console, *arguments)
    assert (ran.returncode, ran.stderr) == (2, "laminator verify: standard output is closed\n")


def test_an_explained_policy_on_a_terminal_of_ascii(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    rule = '[[property]]\nname = "a"\nsource = "measured"\nmeasurer = "größe"\n'
    policy.write_text(f"version = 1\n{rule}", encoding="utf-8")
    code = "import sys\nsys.stdout.reconfigure(encoding='ascii')\n"
    code += "from laminator.cli.main import console\nconsole()\n"
    ran = _run(code, "policy", "explain", str(policy))
    assert ran.returncode == 0, ran.stderr
    assert "gr\\xf6\\xdfe" in ran.stdout


def test_terminal_of_ascii_gets_escapes(arguments: list[str], tmp_path: Path) -> None:
    reported = Property("size", "größe", "reported", "x")
    card = tmp_path / "x.card"
    card.write_bytes(forge.card_bytes(world(properties=(reported,))))
    code = "import sys\nsys.stdout.reconfigure(encoding='ascii')\n"
    code += "from laminator.cli.main import console\nconsole()\n"
    ran = _run(code, "verify", str(card), *arguments[2:])
    assert ran.returncode == 0, ran.stderr
    assert "gr\\xf6\\xdfe" in ran.stdout


def test_other_verbs_end_in_order() -> None:
    code = "from laminator.cli.main import console\nconsole()\n"
    ran = _run(code, "--version")
    assert ran.returncode == 0, ran.stderr
    assert _run(code).returncode == 2


def test_public_names_are_all_there() -> None:
    for name in laminator.__all__:
        assert getattr(laminator, name).__name__ == name
    assert list(laminator.__all__) == sorted(laminator.__all__)
    assert set(laminator.__all__) <= set(dir(laminator))
    with pytest.raises(AttributeError):
        laminator.nothing  # noqa: B018
