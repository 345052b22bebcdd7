"""`laminator evaluate`: measure properties of a model on labelled data and write a card."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from laminator.appraise.policy import duration
from laminator.cbor import Value
from laminator.cli.run_options import Task, build_request, configure_common, pairs, prepare
from laminator.errors import MalformedError, UsageError, shown
from laminator.measure.dataset import CLASS_COLUMN
from laminator.run import model_host
from laminator.run.driver import FAILURE_STATUS, drive
from laminator.run.evaluation import LABELS, MAX_SECONDS, MODEL, Evaluation, plain_evaluation
from laminator.run.measurement import Measurement, check_known
from laminator.run.request import RunRequest

__all__ = ["FAILURE_STATUS", "HELP", "configure", "prepare", "request", "run"]

HELP = (
    "Measure properties of a model on labelled data and write a card. The model runs in a process "
    "that gets features only; labels stay with the measurer. Example: laminator evaluate "
    "digits.safetensors --model-code digits_model.py --data test=test.csv --labels label "
    "--simulated"
)
COLUMN_PREFIX = "column:"
DATA_SUFFIXES = (".csv", ".data", ".npy", ".npz")
LABEL_SUFFIXES = (".csv", ".npy", ".txt")
_MANY: Mapping[str, object] = {"action": "append", "default": []}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the model's file or folder")
    add(
        "--model-code",
        metavar="FILE.py",
        help="defines load(path) -> model and predict(model, batch) -> scores; needed for all "
        "models but .pt2 (torch.export) and .onnx",
    )
    add(
        "--data",
        metavar="NAME=PATH",
        required=True,
        help="the data: .csv, .npz, .npy, or a folder with a subfolder of images for each class",
    )
    add(
        "--labels",
        metavar="COLUMN|FILE",
        help="the labels' column (column:NAME where a file is called so too), or a file of labels "
        "(.txt, .csv, .npy); for folders of images the subfolders are the default",
    )
    _add_columns(parser)
    add(
        "--property",
        metavar="NAME",
        **_MANY,  # type: ignore[arg-type]
        help="what to measure (default: accuracy)",
    )
    _add_work(parser)
    configure_common(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; return the exit status, or FAILURE_STATUS for a failure of ours."""
    return drive(request(args), attester=args.attester, simulated=args.simulated)


def request(args: argparse.Namespace) -> RunRequest:
    """Return the request that the arguments make. Raises UsageError."""
    if args.input or args.output:
        message = "evaluate takes MODEL and --data in place of --input, and has no --output"
        raise UsageError("evaluate.inputs", message)
    inputs = _inputs(args)
    _check_model(args)
    entry = _absolute(args.model_code) if args.model_code else model_host.__file__
    (data,) = (name for name in inputs if name not in (MODEL, LABELS))
    measurement = _measurement(args, Path(inputs[data]), inputs.get(LABELS))
    check_known(measurement.properties)
    has_code = args.model_code is not None
    evaluation = Evaluation(measurement, data, has_code, _timeout(args.timeout))
    task = Task(
        verb="evaluate",
        argv=(_absolute(args.python or sys.executable), entry),
        script=1,
        kind="evaluation",
        card=f"{Path(args.model).stem}.evaluation.card",
        options=cast("Mapping[str, Value]", plain_evaluation(evaluation)),
    )
    return build_request(args, task)._replace(inputs=inputs)


def _add_columns(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--sensitive",
        metavar="COLUMN",
        **_MANY,  # type: ignore[arg-type]
        help="measure each group of this column apart; the model does not get it",
    )
    add(
        "--feature",
        metavar="COLUMN",
        **_MANY,  # type: ignore[arg-type]
        help="give the model this sensitive column too",
    )
    add(
        "--hold-back",
        metavar="COLUMN",
        **_MANY,  # type: ignore[arg-type]
        help="give the model this column not (row ids, say)",
    )
    add("--columns", metavar="NAME,NAME,...", help="the columns of a CSV without a header row")


def _add_work(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--sample",
        metavar="N",
        type=int,
        help="measure on N rows only, which the seed draws; needs --seed or a --plan with one",
    )
    add(
        "--timeout",
        metavar="DURATION",
        default="24h",
        help="end work that takes longer than this number of s, m, h, d or w (default: 24h)",
    )
    add("--python", metavar="PATH", help="the Python that runs the model (default: this one)")


def _inputs(args: argparse.Namespace) -> dict[str, str]:
    ((name, path),) = pairs([args.data], "--data", _absolute).items()
    if name in (MODEL, LABELS):
        raise UsageError("evaluate.name", f"--data {name}=...: choose another name")
    inputs = {MODEL: _absolute(args.model), name: path}
    if _names_file(args.labels):
        inputs[LABELS] = _absolute(args.labels)
    for path in inputs.values():
        if not Path(path).exists():
            raise UsageError("evaluate.missing", f"there is no {shown(path)}")
    return inputs


def _names_file(labels: str | None) -> bool:
    return labels is not None and not labels.startswith(COLUMN_PREFIX) and Path(labels).is_file()


def _check_model(args: argparse.Namespace) -> None:
    suffix = Path(args.model).suffix
    if not args.model_code and suffix not in model_host.BUILT_IN:
        built_in = " and ".join(model_host.BUILT_IN)
        message = f"only {built_in} models load without code; give --model-code FILE.py"
        raise UsageError("evaluate.code", message)


def _measurement(args: argparse.Namespace, data: Path, labels: str | None) -> Measurement:
    suffix = "" if data.is_dir() else data.suffix.lower()
    header = tuple(args.columns.split(",")) if args.columns else ()
    if not data.is_dir() and suffix not in DATA_SUFFIXES:
        forms = ", ".join(DATA_SUFFIXES)
        raise UsageError("evaluate.data", f"--data: a folder of images or a file of {forms}")
    if suffix == ".data" and not header:
        raise UsageError("evaluate.columns", "a .data file has no header row; give --columns")
    if labels is not None and Path(labels).suffix.lower() not in LABEL_SUFFIXES:
        forms = ", ".join(LABEL_SUFFIXES)
        raise UsageError("evaluate.labels", f"--labels: a column, or a file of {forms}")
    return Measurement(
        properties=tuple(args.property) or ("accuracy",),
        data_suffix=suffix,
        labels=None if labels is not None else _label_column(args, data),
        labels_suffix="" if labels is None else Path(labels).suffix.lower(),
        header=header,
        sensitive=tuple(args.sensitive),
        features=tuple(args.feature),
        held_back=tuple(args.hold_back),
        sample=_sample(args),
    )


def _sample(args: argparse.Namespace) -> int | None:
    sample: int | None = args.sample
    if sample is None:
        return None
    if args.seed is None and args.plan is None:
        message = "--sample without --seed: nobody could check which rows were drawn"
        raise UsageError("evaluate.sample", message)
    if sample < 1:
        raise UsageError("evaluate.sample", f"--sample {sample}: draw one row at least")
    return sample


def _timeout(words: str) -> int:
    try:
        seconds = duration(words, "--timeout")
    except MalformedError as error:
        raise UsageError("evaluate.timeout", error.message) from error
    if seconds > MAX_SECONDS:
        message = f"--timeout {shown(words)}: at most {MAX_SECONDS // 86_400}d"
        raise UsageError("evaluate.timeout", message)
    return seconds


def _label_column(args: argparse.Namespace, data: Path) -> str:
    if args.labels is not None:
        return str(args.labels.removeprefix(COLUMN_PREFIX))
    if data.is_dir():
        return CLASS_COLUMN
    raise UsageError("evaluate.labels", "--labels COLUMN|FILE: where are the labels?")


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - keeps links as they are
