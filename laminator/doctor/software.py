"""Which extras of Laminator and which programs are installed, and whether a key is enrolled."""

import contextlib
import datetime as dt
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from laminator.doctor.finding import MISSING, PRESENT, WARNING, Finding, Way
from laminator.enroll.certificate_files import read_certificates
from laminator.enroll.places import CERTIFICATE_SUFFIXES, LABELS
from laminator.errors import UsageError

_EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "tpm": (("tpm2_pytss",), "runs on a TPM, and enrolment"),
    "ml": (("torch", "numpy", "safetensors"), "evaluation of torch models"),
    "onnx": (("onnxruntime",), "evaluation of ONNX models"),
    "timestamp": (("rfc3161_client",), "time-stamps"),
    "progress": (("rich",), "progress on a terminal"),
}
_NEEDED: dict[str, tuple[Way, ...]] = {"tpm": ("tpm", "simulated")}
_PROGRAMS: dict[str, tuple[str, str, tuple[Way, ...]]] = {
    "bwrap": ("bubblewrap", "isolation of workloads", ()),
    "swtpm": ("swtpm", "simulated machines", ("simulated",)),
    "openssl": ("openssl", "simulated time-stamps", ()),
}
_SOON = dt.timedelta(days=30)


def software_findings(
    has_module: Callable[[str], bool] | None = None, path: str | None = None
) -> tuple[Finding, ...]:
    """Look for extras (`has_module` stands for Python's own search in tests) and for programs."""
    find = has_module or _has_module
    return (
        *(_extra(name, find) for name in _EXTRAS),
        *(_program(name, path or os.environ.get("PATH")) for name in _PROGRAMS),
    )


def enrolment_finding(
    folder: Path, now: dt.datetime, request: str = "laminator enroll request"
) -> Finding:
    """Say whether certificates of attestation keys lie in `folder` and are valid.

    `request` is the command that asks for one.
    """
    ends = _ends(folder)
    if not ends:
        detail = f"no certificate for an attestation key in {folder}"
        return Finding("enrolment", "certificate", MISSING, detail, request, ("tpm",))
    end = max(ends)
    if end < now:
        detail = f"the attestation key's certificate ended {end.date()}"
        return Finding("enrolment", "certificate", WARNING, detail, request, ("tpm",))
    if end - now < _SOON:
        detail = f"the attestation key's certificate ends {end.date()}"
        return Finding("enrolment", "certificate", WARNING, detail, request)
    labels = folder / LABELS
    count = sum(1 for _ in labels.iterdir()) if labels.is_dir() else 0
    own = f", and keys of {count} labels" if count else ""
    return Finding("enrolment", "certificate", PRESENT, f"valid until {end.date()}{own}")


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _ends(folder: Path) -> list[dt.datetime]:
    """Return when the certificates in `folder` end; files that hold none do not count."""
    from cryptography import x509

    if not folder.is_dir():
        return []
    ends = []
    for path in sorted(folder.iterdir()):
        if path.suffix not in CERTIFICATE_SUFFIXES:
            continue
        with contextlib.suppress(UsageError, ValueError):
            ders = read_certificates(str(path))
            ends += [x509.load_der_x509_certificate(der).not_valid_after_utc for der in ders]
    return ends


def _extra(name: str, find: Callable[[str], bool]) -> Finding:
    modules, purpose = _EXTRAS[name]
    absent = [module for module in modules if not find(module)]
    if not absent:
        return Finding("software", f"extra-{name}", PRESENT, f"for {purpose}")
    detail = f"for {purpose}: no {', '.join(absent)}"
    advice = f"pip install 'laminator[{name}]'"
    return Finding("software", f"extra-{name}", MISSING, detail, advice, _NEEDED.get(name, ()))


def _program(name: str, path: str | None) -> Finding:
    package, purpose, blocks = _PROGRAMS[name]
    found = shutil.which(name, path=path)
    if found is not None:
        return Finding("software", name, PRESENT, f"for {purpose}: {found}")
    advice = f"sudo apt install {package}"
    return Finding("software", name, MISSING, f"for {purpose}: not found", advice, blocks)
