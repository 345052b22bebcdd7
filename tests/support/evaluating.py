"""Evaluations in real sandboxes without a TPM: a started run is made by hand."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from laminator.attest.tpm import AttestationTpm
from laminator.claims import Artifact, Launch, Run
from laminator.cli import evaluate
from laminator.run.attestation import SpentNumber
from laminator.run.bubblewrap import bubblewrap
from laminator.run.code import measure_code
from laminator.run.evaluation import parse_evaluation
from laminator.run.limits import model_limits
from laminator.run.log import RunLog
from laminator.run.private_copy import copy_measured, private_place
from laminator.run.request import RunRequest
from laminator.run.sandbox import isolation, probe
from laminator.run.session import Input, Opened, StartedRun


class _NoTpm:
    """Takes the log's records and keeps none."""

    def reset_log(self) -> None:
        """Do nothing."""

    def extend_log(self, digest: bytes) -> None:
        """Check the digest's length."""
        if len(digest) != 32:
            raise ValueError(digest)


def request(*words: object) -> RunRequest:
    """Return the request of `laminator evaluate` with these arguments."""
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    return evaluate.request(parser.parse_args([str(word) for word in words]))


@contextmanager
def started_run(asked: RunRequest, force: str | None = None) -> Iterator[StartedRun]:
    """Measure code and inputs of `asked` as an attester does, in the sandbox of this machine."""
    sandbox = probe(bubblewrap(), force=force)
    with private_place(1 << 20) as place:
        log = RunLog(cast("AttestationTpm", _NoTpm()))
        code = measure_code(asked, place, log, sandbox)
        (place / "inputs").mkdir()
        inputs = {}
        for number, (name, path) in enumerate(sorted(asked.inputs.items())):
            copy = copy_measured(Path(path), place / "inputs" / str(number))
            artifact = Artifact("dataset", copy.measured.digest, copy.measured.size, 1)
            inputs[name] = Input(Path(path), copy.path, artifact)
        opened = cast("Opened", _opened(asked, log))
        in_force = isolation(sandbox, network=False, limits=model_limits())
        yield StartedRun(opened, place, code, sandbox, in_force, inputs, (), {}, place)


def _opened(asked: RunRequest, log: RunLog) -> object:
    run = Run(bytes(16), 1, Launch("none"), seed=asked.seed)
    others: list[Any] = [None] * (len(Opened._fields) - 1)
    return Opened(asked, *others)._replace(spent=SpentNumber(run, cast("Any", None)), log=log)


__all__ = ["parse_evaluation", "request", "started_run"]
