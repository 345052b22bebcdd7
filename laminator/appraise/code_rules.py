"""The policy's rules for the code that ran, and what is reported of it: one function a check."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from laminator.appraise.check import Check, failed, not_applicable, passed
from laminator.appraise.code_index import CodeFile, Known, Status, classify, packages_of
from laminator.appraise.code_policy import ALLOW, REFUSE, UNMEASURED
from laminator.appraise.policy import Policy
from laminator.card import Card
from laminator.claims import CODE_FILES
from laminator.digest import Digest
from laminator.eventlog import NOTHING, code_records, count_code
from laminator.reference import ReferencePackage, ReferenceValues
from laminator.report.text import safe

_SHOWN = 3


class CodeReport(NamedTuple):
    """The code of a card whose attester measured it.

    `modules` and `natives` are the claims' methods, `files` what each file is, `events` how often
    code without a file ran, by event.
    """

    modules: str
    natives: str
    files: tuple[CodeFile, ...]
    events: Mapping[str, int]

    def of(self, status: Status) -> tuple[CodeFile, ...]:
        """Return the files with this status, in the order of their first use."""
        return tuple(file for file in self.files if file.status == status)


class KnownCode(NamedTuple):
    """The verifier's own: reference values, and digests of files that it approves."""

    references: Sequence[ReferenceValues] = ()
    approved: frozenset[Digest] = frozenset()


def report_code(
    card: Card, policy: Policy, known: KnownCode, *, launched: bool
) -> CodeReport | None:
    """Say what each file of code is, None for a card without measured code.

    `launched` tells that the attester's launch matches a reference value of the policy.
    """
    workload = card.claims.workload
    if workload.code is None:
        return None
    approved = (
        policy.code.allow | policy.references.entry | policy.references.interpreter | known.approved
    )
    records = code_records(card.log)
    files = classify(
        workload,
        records,
        Known(
            packages_of(known.references), _values(approved), _values(policy.code.forbid), launched
        ),
    )
    events = {event: n for event, n in count_code(records).items() if event not in CODE_FILES}
    return CodeReport(workload.code.modules, workload.code.natives, files, events)


def check_code(
    card: Card, policy: Policy, known: KnownCode, report: CodeReport | None
) -> Iterator[Check]:
    """Yield the checks of the policy's rules for code."""
    yield from check_unknown(policy, report)
    if known.references:
        yield check_modified(report)
    if policy.code.forbid:
        yield check_forbidden(card, policy, report)
    if policy.code.forbid_events:
        yield check_events(policy, report)


def check_unknown(policy: Policy, report: CodeReport | None) -> Iterator[Check]:
    """`policy.unknown-code`: each file is a reference value or approved, where the policy asks."""
    id_ = "policy.unknown-code"
    if policy.code.unknown == ALLOW:
        return
    if report is None:
        verdict = failed if policy.code.unknown == REFUSE else not_applicable
        yield verdict(id_, UNMEASURED)
    elif report.modules == "none":
        yield failed(id_, UNMEASURED)
    elif unknown := report.of("unknown"):
        yield failed(id_, f"{_number(unknown, report)} unknown: {_listed(map(_shown, unknown))}")
    else:
        yield passed(id_, f"none of {len(report.files):,} files is unknown")


def check_modified(report: CodeReport | None) -> Check:
    """`policy.code.modified`: a file that a reference names has the reference's bytes."""
    id_ = "policy.code.modified"
    if report is None:
        return not_applicable(id_, UNMEASURED)
    if modified := report.of("modified"):
        listed = _listed(
            f"{safe(file.name)} of {title(file.package)}: expected sha-256:{file.expected.hex()}, "
            f"found sha-256:{file.digest.hex()}"
            for file in modified
            if file.package is not None and file.expected is not None
        )
        return failed(id_, f"{_number(modified, report)} modified: {listed}")
    return passed(id_, "no file differs from the reference values for its name")


def check_forbidden(card: Card, policy: Policy, report: CodeReport | None) -> Check:
    """`policy.code.forbidden`: nothing that ran has a digest that the policy forbids."""
    id_ = "policy.code.forbidden"
    forbidden = _values(policy.code.forbid)
    found = [] if report is None else [_shown(file) for file in report.of("forbidden")]
    found += [
        f"{record.event} {safe(record.name)} sha-256:{record.digest.hex()}"
        for record in code_records(card.log)
        if record.event not in CODE_FILES and record.digest in forbidden - {NOTHING}
    ]
    if found:
        return failed(id_, f"the policy forbids {_listed(found)}")
    if report is None or report.modules == "none":
        return failed(id_, f"the policy forbids code, and {UNMEASURED}")
    return passed(id_, f"none of {len(forbidden)} forbidden digest(s) ran")


def check_events(policy: Policy, report: CodeReport | None) -> Check:
    """`policy.code.events`: code without a file ran in no way that the policy forbids."""
    id_ = "policy.code.events"
    asked = ", ".join(sorted(policy.code.forbid_events))
    if report is None or report.modules == "none":
        return failed(id_, f"the policy forbids {asked}, and {UNMEASURED}")
    found = [
        f"{report.events[event]:,} {event}"
        for event in sorted(policy.code.forbid_events)
        if report.events.get(event)
    ]
    if found:
        return failed(id_, f"the policy forbids {asked}, the log has {', '.join(found)}")
    return passed(id_, f"the log has no event of {asked}")


def title(package: ReferencePackage) -> str:
    """Return a package's name and version, fit for a terminal."""
    return safe(f"{package.name} {package.version}".rstrip())


def _values(digests: Iterable[Digest]) -> frozenset[bytes]:
    return frozenset(digest.value for digest in digests if digest.algorithm == "sha-256")


def _number(files: Sequence[CodeFile], report: CodeReport) -> str:
    return f"{len(files):,} of {len(report.files):,} files"


def _listed(items: Iterable[str]) -> str:
    listed = list(items)
    more = f"; and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    return "; ".join(listed[:_SHOWN]) + more


def _shown(file: CodeFile) -> str:
    return f"{safe(file.name)} sha-256:{file.digest.hex()}"
