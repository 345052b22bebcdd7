"""What is said of the code that ran, as plain text grouped by package and as JSON."""

from collections.abc import Iterator, Sequence

from laminator.appraise.code_index import CodeFile, Status
from laminator.appraise.code_rules import CodeReport, title
from laminator.reference import ReferencePackage
from laminator.report.text import safe

MAX_PACKAGES = 40
MAX_FILES = 20

_SHOWN: tuple[Status, ...] = ("forbidden", "modified", "unknown", "approved")
_STATUSES: tuple[Status, ...] = ("known-good", *reversed(_SHOWN))

Counted = list[tuple[ReferencePackage, int, int]]


def code_lines(report: CodeReport) -> Iterator[str]:
    """Yield lines on the code that ran: a few for any number of files."""
    known = report.of("known-good")
    yield f"{len(known):,} of {len(report.files):,} files are byte for byte known"
    yield from _package_lines(_counted(report))
    yield from (f"{_name(file)}: {file.why}" for file in known if file.package is None)
    for status in _SHOWN:
        yield from _files(status, report.of(status))
    if report.events:
        listed = ", ".join(f"{number:,} {event}" for event, number in report.events.items())
        yield f"code without a file: {listed}"
    if report.modules == "none":
        yield "modules: not measured"
    yield f"native libraries: {report.natives}"


def code_to_json(report: CodeReport) -> dict[str, object]:
    """Return the report after docs/verification-result.schema.json, with every file."""
    return {
        "modules": report.modules,
        "natives": report.natives,
        "events": dict(report.events),
        "counts": {status: len(report.of(status)) for status in _STATUSES},
        "packages": [
            {**package_to_json(package), "known-good": good, "modified": modified}
            for package, good, modified in _counted(report)
        ],
        "files": [_file(file) for file in report.files],
    }


def _counted(report: CodeReport) -> Counted:
    """Return (known-good, modified) files of each package, the package with most files first."""
    counts: dict[int, list[int]] = {}
    packages: dict[int, ReferencePackage] = {}
    for file in report.files:
        if file.package is not None:
            packages[id(file.package)] = file.package
            each = counts.setdefault(id(file.package), [0, 0])
            each[file.status == "modified"] += 1
    ordered = sorted(counts, key=lambda key: (-sum(counts[key]), packages[key][:2]))
    return [(packages[key], counts[key][0], counts[key][1]) for key in ordered]


def _package_lines(counted: Counted) -> Iterator[str]:
    for package, good, modified in counted[:MAX_PACKAGES]:
        yield f"{title(package)} ({package.kind}): {good:,} of {good + modified:,} files"
    if len(counted) > MAX_PACKAGES:
        yield f"and {len(counted) - MAX_PACKAGES:,} more packages; --json lists all"


def _files(status: str, files: Sequence[CodeFile]) -> Iterator[str]:
    for file in files[:MAX_FILES]:
        yield f"{status}: {_name(file)} sha-256:{file.digest.hex()}{_expected(file)}"
    if len(files) > MAX_FILES:
        yield f"{status}: and {len(files) - MAX_FILES:,} more; --json lists all"


def _name(file: CodeFile) -> str:
    return safe(f"{file.event} {file.name}")


def _expected(file: CodeFile) -> str:
    if file.package is None or file.expected is None:
        return ""
    return f", {title(file.package)} has sha-256:{file.expected.hex()}"


def _file(file: CodeFile) -> dict[str, object]:
    return {
        "event": file.event,
        "name": file.name,
        "digest": f"sha-256:{file.digest.hex()}",
        "status": file.status,
        "package": None if file.package is None else package_to_json(file.package),
        "expected": None if file.expected is None else f"sha-256:{file.expected.hex()}",
        "why": file.why or None,
    }


def package_to_json(package: ReferencePackage) -> dict[str, object]:
    """Return what a package of reference values is, without its files, as plain JSON values."""
    origin = None if package.origin is None else str(package.origin)
    return {
        "name": package.name,
        "version": package.version,
        "kind": package.kind,
        "origin": origin,
    }
