"""`laminator doctor`: what this machine has, what is missing, and the next command."""

import argparse
import datetime as dt
import json
import shlex
from typing import TYPE_CHECKING

from laminator.errors import UsageError, shown
from laminator.report.text import safe

if TYPE_CHECKING:
    from laminator.doctor.finding import Diagnosis

HELP = (
    "Say what this machine has for measured runs (TPM, trusted execution environments, isolation, "
    "software, an enrolled key), what is missing, and the next command. Exit status 1 where no "
    "card can be made yet, on a TPM or simulated."
)
_MARKS = {"present": "ok", "missing": "--", "warning": "!!"}
_LINE = 400


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "--attester",
        metavar="auto|tpm:TCTI",
        default="auto",
        help="which TPM to look into (device: and swtpm:path= without further software)",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Look at the machine and print what is found."""
    diagnosis = _look(args.attester)
    if args.json:
        print(json.dumps(_facts(diagnosis)))
    else:
        _print(diagnosis)
    return 0 if diagnosis.ready else 1


def _look(attester: str) -> "Diagnosis":
    from laminator.doctor.finding import RUN_COMMANDS, Host, diagnose
    from laminator.doctor.hardware import tee_findings, tpm_findings
    from laminator.doctor.isolation import isolation_findings
    from laminator.doctor.software import enrolment_finding, software_findings
    from laminator.enroll.places import ak_folder

    tcti = _tcti(attester)
    options = "" if tcti is None else f" {shlex.join(['--attester', attester])}"
    host = Host()
    findings = (
        *tpm_findings(host, tcti),
        *tee_findings(host),
        *isolation_findings(host),
        *software_findings(),
        enrolment_finding(
            ak_folder(), dt.datetime.now(dt.UTC), f"laminator enroll request{options}"
        ),
    )
    return diagnose(findings, RUN_COMMANDS["tpm"].replace(" -- ", f"{options} -- "))


def _tcti(attester: str) -> str | None:
    if attester == "auto":
        return None
    kind, _, tcti = attester.partition(":")
    if kind != "tpm" or not tcti:
        message = f"--attester {shown(attester)}: expected auto or tpm:TCTI"
        raise UsageError("attester.kind", message)
    return tcti


def _facts(diagnosis: "Diagnosis") -> dict[str, object]:
    return {
        "findings": [
            {**item._asdict(), "blocks": list(item.blocks)} for item in diagnosis.findings
        ],
        "ready": list(diagnosis.ready),
        "next": diagnosis.following,
    }


def _print(diagnosis: "Diagnosis") -> None:
    area = ""
    for item in diagnosis.findings:
        if item.area != area:
            area = item.area
            print(f"{area}:")
        print(f"  {_MARKS[item.state]}  {item.name:<17} {safe(item.detail, limit=_LINE)}")
        if item.advice and item.state != "present":
            print(f"      {'':<17} -> {safe(item.advice, limit=_LINE)}")
    ready = " and ".join(diagnosis.ready) or "no machine yet"
    print(f"cards can be made on: {ready}")
    print(f"next: {safe(diagnosis.following, limit=_LINE)}")
