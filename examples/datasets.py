"""Writes real records as CSV files, split in a training and a test half.

    python examples/datasets.py digits FOLDER
    python examples/datasets.py breast-cancer FOLDER
    python examples/datasets.py diabetes FOLDER
    python examples/datasets.py census FOLDER --adult adult.data

The first three come with scikit-learn. The fourth is UCI Adult as the Laminator
paper's CENSUS workload uses it: rows whose race is White or Black, income as the
label, race and sex kept as sensitive columns, `fnlwgt` dropped. The same call
writes the same bytes every time, because a card names data by its digest.
"""

import argparse
import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sklearn import datasets

SEED = 0
ADULT_COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
)


class Table(NamedTuple):
    """Column names, rows of printed values, and the label column's name."""

    columns: list[str]
    rows: list[list[str]]
    label: str


def read_digits() -> Table:
    """Return 1,797 handwritten digits: 64 pixels from 0 to 16 and a label from 0 to 9."""
    bunch = datasets.load_digits()
    columns = [f"pixel_{index}" for index in range(64)]
    return _table(columns, bunch, "label", "{:.0f}")


def read_breast_cancer() -> Table:
    """Return 569 tumours: 30 measurements and a label, 1 for benign."""
    bunch = datasets.load_breast_cancer()
    columns = [name.replace(" ", "_") for name in bunch.feature_names]
    return _table(columns, bunch, "label", "{:.8g}")


def read_diabetes() -> Table:
    """Return 442 patients: 10 measurements, `sex` among them, and whether it progressed far.

    The label `high` is 1 above the median of scikit-learn's measure of progression.
    """
    bunch = datasets.load_diabetes(scaled=False)
    median = sorted(bunch.target)[len(bunch.target) // 2]
    bunch.target = (bunch.target > median).astype(int)
    return _table(list(bunch.feature_names), bunch, "high", "{:.8g}")


def read_census(path: Path) -> Table:
    """Return the Adult rows of the CENSUS workload; the label `income` is 1 above 50K."""
    columns = [name for name in ADULT_COLUMNS if name != "fnlwgt"]
    rows = []
    with path.open(encoding="ascii", newline="") as file:
        for values in csv.reader(file, skipinitialspace=True):
            if len(values) != len(ADULT_COLUMNS):
                continue
            record = dict(zip(ADULT_COLUMNS, values, strict=True))
            if record["race"] in {"White", "Black"}:
                record["income"] = str(int(record["income"] == ">50K"))
                rows.append([record[name] for name in columns])
    return Table(columns, rows, "income")


def split(table: Table, test_share: float) -> tuple[Table, Table]:
    """Return a training and a test table, each with the same share of every label's rows."""
    position = table.columns.index(table.label)
    generator = random.Random(SEED)
    train, test = [], []
    for label in sorted({row[position] for row in table.rows}):
        rows = [row for row in table.rows if row[position] == label]
        generator.shuffle(rows)
        cut = round(len(rows) * test_share)
        test += rows[:cut]
        train += rows[cut:]
    generator.shuffle(train)
    generator.shuffle(test)
    return table._replace(rows=train), table._replace(rows=test)


def write(table: Table, path: Path) -> None:
    """Write a CSV file with a header line."""
    with path.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(table.rows)


def main() -> None:
    """Write train.csv and test.csv into the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Write real records as train.csv and test.csv.")
    parser.add_argument("name", choices=["digits", "breast-cancer", "diabetes", "census"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--adult", type=Path, help="UCI Adult's adult.data, for census")
    options = parser.parse_args()
    if options.name == "census" and options.adult is None:
        parser.error("census needs --adult PATH, UCI Adult's adult.data")
    readers: dict[str, Callable[[], Table]] = {
        "digits": read_digits,
        "breast-cancer": read_breast_cancer,
        "diabetes": read_diabetes,
        "census": lambda: read_census(options.adult),
    }
    train, test = split(readers[options.name](), 0.5 if options.name == "census" else 0.2)
    options.folder.mkdir(parents=True, exist_ok=True)
    write(train, options.folder / "train.csv")
    write(test, options.folder / "test.csv")


def _table(columns, bunch, label, number) -> Table:
    rows = [
        [number.format(value) for value in features] + [f"{target:g}"]
        for features, target in zip(bunch.data, bunch.target, strict=True)
    ]
    return Table([*columns, label], rows, label)


if __name__ == "__main__":
    main()
