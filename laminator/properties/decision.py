"""From a model's scores to the class that it chooses for each row."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from laminator.errors import MalformedError, UsageError, shown

ARGMAX = "argmax; the lowest index wins a tie"
THRESHOLD = "second class where its probability >= 0.5"
_HALF = 0.5
_BINARY = 2


class Scores(NamedTuple):
    """Scores of `rows` rows, row after row.

    `classes` is the number of scores in each row, or None for one probability a row: that of the
    second of two classes.
    """

    rows: int
    classes: int | None
    values: Sequence[float]


def decide(scores: Scores, classes: int) -> tuple[tuple[int, ...], str]:
    """Return the class index of each row, and the decision rule in words.

    Raises MalformedError for scores that are not finite, probabilities outside [0, 1], and a
    number of scores that does not fit `classes`.
    """
    expected = scores.rows * (1 if scores.classes is None else scores.classes)
    if len(scores.values) != expected:
        message = f"{len(scores.values)} scores, expected {expected}"
        raise MalformedError("scores.shape", message)
    if not all(map(math.isfinite, scores.values)):
        place = next(i for i, value in enumerate(scores.values) if not math.isfinite(value))
        message = f"score {scores.values[place]} in a row: every score must be finite"
        raise MalformedError("scores.finite", message)
    if scores.classes is None:
        return _by_threshold(scores.values, classes), THRESHOLD
    if scores.classes != classes:
        message = f"{scores.classes} scores a row for {classes} classes; CLASSES names them all"
        raise MalformedError("scores.classes", message)
    return _by_argmax(scores.values, classes), ARGMAX


def index_labels(labels: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Return each label's index in `classes`. Raises UsageError for a label that is not there."""
    indices = {name: index for index, name in enumerate(classes)}
    unknown = set(labels) - indices.keys()
    if unknown:
        message = f"the data has the label {shown(min(unknown))}, which is none of the classes"
        raise UsageError("labels.unknown", message)
    return tuple(indices[label] for label in labels)


def _by_threshold(probabilities: Sequence[float], classes: int) -> tuple[int, ...]:
    if classes != _BINARY:
        message = f"one score a row for {classes} classes: one is enough for two classes only"
        raise MalformedError("scores.classes", message)
    if not all(0 <= value <= 1 for value in probabilities):
        message = "a single score a row must be a probability in [0, 1]; else give two columns"
        raise MalformedError("scores.probability", message)
    return tuple(int(value >= _HALF) for value in probabilities)


def _by_argmax(values: Sequence[float], classes: int) -> tuple[int, ...]:
    chosen = []
    for start in range(0, len(values), classes):
        row = values[start : start + classes]
        chosen.append(row.index(max(row)))
    return tuple(chosen)
