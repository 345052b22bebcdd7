"""`laminator datasheet` from end to end: the command, the attester, a real software TPM."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from local_run import PYTHON, Attester, Ran, Workshop

from laminator.claims import Property

ROWS = [f"{number},word {number}\n" for number in range(20)]
START = [PYTHON, "-c", "import sys; from laminator.cli.main import main; sys.exit(main())"]


class Desk(Workshop):
    """A folder with data sets."""

    def table(self, name: str, rows: list[str]) -> None:
        """Write rows as CSV."""
        self.write(f"{name}.csv", "n,word\n" + "".join(rows))

    def measure(self, *words: str) -> Ran:
        """Measure with these words."""
        attester = f"--attester=tpm:{self.attester.tcti}"
        command = [*START, "datasheet", attester, "--card=out.card", *words]
        return self.attester.ran(command, self.folder, timeout=100)

    def found(self) -> list[Property]:
        """Return the card's properties."""
        return list(self.card("out.card").claims.properties)


@pytest.fixture
def desk(attester: Attester, tmp_path: Path) -> Desk:
    """A desk with train, test and all of both, one as Parquet."""
    made = Desk(attester, tmp_path)
    made.table("train", ROWS[:15])
    made.table("test", ROWS[15:])
    made.table("all", ROWS[::-1])
    columns = {"n": list(range(20)), "word": [f"word {number}" for number in range(20)]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "all.parquet")
    return made


def test_a_split_is_disjoint_and_adds_up(desk: Desk) -> None:
    data = [f"--data={name}={name}.csv" for name in ("train", "test", "all")]
    asked = ["--disjoint=train,test", "--disjoint=train,all", "--sum=train+test=all"]
    ran = desk.measure(*data, *asked, "--records=all")
    assert ran.status == 0, ran
    records, apart, within, union = desk.found()
    assert records.parameters["n"] == 20
    assert (apart.value, within.value, union.value) == (True, False, True)
    assert within.parameters["shared"] == 15
    assert {item.source for item in desk.found()} == {"measured"}
    assert desk.card("out.card").claims.workload.entry.label == "record_measurer.py"


def test_what_rests_on_pyarrow_is_reported(desk: Desk) -> None:
    ran = desk.measure("--data=csv=all.csv", "--data=parquet=all.parquet")
    assert ran.status == 0, ran
    csv, parquet = desk.found()
    assert csv.value == parquet.value
    assert {csv.source, parquet.source} == {"reported"}


def test_unreadable_records_make_no_card(desk: Desk) -> None:
    desk.write("all.csv", "n,word\n1\n")
    ran = desk.measure("--data=csv=all.csv")
    assert ran.status == 125
    assert not (desk.folder / "out.card").exists()
