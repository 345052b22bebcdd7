"""How well a model's choices agree with the labels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from laminator.cbor import Value
from laminator.claims import Property
from laminator.errors import UsageError
from laminator.properties.interval import wilson

ACCURACY = "laminator.properties.performance.accuracy/1"


class Choices(NamedTuple):
    """Labels and a model's choices, one class index a row; `groups` are columns of group names."""

    labels: Sequence[int]
    chosen: Sequence[int]
    groups: Mapping[str, Sequence[str]] = {}


class Setting(NamedTuple):
    """What a property was measured on (names of inputs), and under which parameters."""

    on: tuple[str, ...]
    parameters: Mapping[str, Value]


def accuracy(choices: Choices, setting: Setting) -> Property:
    """Return the share of rows whose choice is the label, with its Wilson interval.

    `n` and `correct` join the parameters, and for each group of each sensitive column a slice
    with the same two counts. One class in the labels is no special case. Raises UsageError
    without rows and for sequences of different lengths.
    """
    rows = len(choices.labels)
    if rows == 0:
        raise UsageError("accuracy.empty", "no accuracy of no rows")
    if any(len(other) != rows for other in (choices.chosen, *choices.groups.values())):
        raise UsageError("accuracy.rows", "labels, choices and groups differ in length")
    right = [label == chosen for label, chosen in zip(choices.labels, choices.chosen, strict=True)]
    parameters = {**setting.parameters, "n": rows, "correct": sum(right)}
    if choices.groups:
        parameters["slices"] = _slices(choices.groups, right)
    return Property(
        name="accuracy",
        value=sum(right) / rows,
        source="measured",
        measurer=ACCURACY,
        on=setting.on,
        parameters=parameters,
        interval=wilson(sum(right), rows),
    )


def _slices(groups: Mapping[str, Sequence[str]], right: Sequence[bool]) -> tuple[Value, ...]:
    slices: list[Value] = []
    for column in sorted(groups):
        counts: dict[str, list[int]] = {}
        for group, is_right in zip(groups[column], right, strict=True):
            count = counts.setdefault(group, [0, 0])
            count[0] += 1
            count[1] += is_right
        slices += [
            {"column": column, "group": group, "n": n, "correct": correct}
            for group, (n, correct) in sorted(counts.items())
        ]
    return tuple(slices)
