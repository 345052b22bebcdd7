"""Runs that follow a plan, and seeds: the command, the attester, a real software TPM."""

import datetime as dt
import json
import subprocess
from pathlib import Path

import pytest
from local_run import LAMINATOR, Attester, Ran, Workshop

from enclave_sim.folder import Folder
from enclave_sim.machine import Machine
from enclave_sim.timestamp_authority import TimestampAuthority, machine_authority
from laminator import load_policy, load_trust, verify
from laminator.claims import Property
from laminator.digest import Digest, sha256
from laminator.endorsements import endorsements_of
from laminator.plan import parse_plan
from laminator.run.outcome import FAILURE_STATUS
from laminator.seed import draw_rows, seed_bytes, workload_seed
from laminator.timestamp.query import make_query

NONCE = bytes(range(16))
ROWS = 60
X = [(7 * i) % 30 for i in range(ROWS)]
DATA = "x,label,other\n" + "".join(f"{x},{'yes' if x % 3 else 'no'},no\n" for x in X)
GUESS = """
import numpy as np
CLASSES = ["no", "yes"]

def load(path):
    return int(open(path).read())

def predict(model, batch):
    return np.stack([batch["x"] < model, batch["x"] >= model], 1)
"""
PLAN = f"""\
version = 1
runs = 2
seed = "nonce"
metric = ["accuracy"]
model = "{sha256(b"11")}"
entry = "{sha256(GUESS.encode())}"

[data]
test = "{sha256(DATA.encode())}"

[parameters]
labels = "column:label"
held-back = ["other"]
sample = 20
"""
WORDS = ("model.bin", "--model-code=code.py", "--data=test=test.csv", "--hold-back=other")
SAMPLED = ("--labels=label", "--sample=20", "--nonce", NONCE.hex(), "--card=train.card")


class Lab(Workshop):
    """A folder with a model, its code, labelled data, and a plan that is time-stamped."""

    def __init__(self, attester: Attester, folder: Path) -> None:
        super().__init__(attester, folder)
        self.write("model.bin", "11")
        self.write("code.py", GUESS)
        self.write("test.csv", DATA)
        self.authority = TimestampAuthority.create(folder / "authority")
        self.write("trust/tsa-simulated/root.pem", self.authority.root_pem.decode())
        crl = (folder / "authority/root.crl").read_text()
        self.write("trust/crls/root.crl", crl)
        self.plan(PLAN)

    def plan(self, text: str, stamped: str | None = None) -> None:
        """Write the plan and a time-stamp of it, or of another text."""
        self.write("plan.toml", text)
        query = make_query((text if stamped is None else stamped).encode(), "sha256")
        (self.folder / "plan.tsr").write_bytes(self.authority.reply(query.der))

    def evaluate(self, *words: str, planned: bool = True) -> Ran:
        """Evaluate with these further words."""
        plan = ("--plan=plan.toml", "--plan-trust=trust") if planned else ()
        attester = f"--attester=tpm:{self.attester.tcti}"
        command = [*LAMINATOR, "evaluate", *WORDS, attester, *plan, *words]
        return self.attester.ran(command, self.folder, timeout=100)

    def key(self) -> str:
        """Return the digest of this machine's key, and leave its card behind."""
        assert self.evaluate("--labels=label", "--card=train.card", planned=False).status == 0
        return str(Digest("sha-256", self.card().claims.evidence[0].key))


@pytest.fixture
def lab(attester: Attester, tmp_path: Path) -> Lab:
    return Lab(attester, tmp_path)


def _measured(lab: Lab) -> Property:
    (found,) = lab.card().claims.properties
    return found


def _right(rows: tuple[int, ...]) -> int:
    return sum((X[row] >= 11) == bool(X[row] % 3) for row in rows)


# --- plans


def test_a_run_follows_its_plan(lab: Lab) -> None:
    ran = lab.evaluate(*SAMPLED)
    assert ran.status == 0, ran.stderr
    card = lab.card()
    token = (lab.folder / "plan.tsr").read_bytes()
    run = card.claims.run
    assert (run.plan, run.plan_token, run.seed) == (sha256(PLAN.encode()), sha256(token), "nonce")
    carried = endorsements_of(card)
    assert (carried.plans, carried.plan_timestamps) == ((PLAN.encode(),), (token,))
    trust = load_trust(str(lab.folder / "trust"))
    both = trust._replace(
        anchors=trust.anchors + lab.attester.trust.anchors,
        crls=trust.crls + lab.attester.trust.crls,
    )
    lab.attester = lab.attester._replace(trust=both)
    result = lab.verify(nonce=NONCE)
    verdicts = {each.id: each.verdict for each in result.checks if each.id.startswith("plan.")}
    assert verdicts.pop("plan.runs") == "not-checked"
    assert set(verdicts.values()) == {"pass"}
    assert len(verdicts) == 9
    assert result.accepted


def test_a_verifier_draws_the_same_rows(lab: Lab) -> None:
    assert lab.evaluate(*SAMPLED).status == 0
    claims = lab.card().claims
    assert claims.run.seed == "nonce"
    rows = draw_rows(seed_bytes("nonce", claims.nonce), ROWS, 20)
    found = _measured(lab)
    assert (found.parameters["n"], found.parameters["correct"]) == (20, _right(rows))
    assert (found.parameters["sample"], found.parameters["seed"]) == (20, "nonce")


def test_a_plan_without_a_time_stamp_is_declared(lab: Lab) -> None:
    (lab.folder / "plan.tsr").unlink()
    assert lab.evaluate(*SAMPLED).status == 0
    card = lab.card()
    assert card.claims.run.plan == sha256(PLAN.encode())
    assert card.claims.run.plan_token is None
    assert endorsements_of(card).plan_timestamps == ()
    result = lab.verify(nonce=NONCE)
    assert "plan.declared" in {caveat.code for caveat in result.caveats}


def test_a_failing_run_keeps_its_number_and_its_plan(lab: Lab) -> None:
    lab.write("code.py", "raise SystemExit(3)")
    assert lab.evaluate(*SAMPLED).status == FAILURE_STATUS
    assert not lab.has_card


@pytest.mark.parametrize(
    ("old", "new", "words", "said"),
    [
        ("runs = 2", "run = 2", SAMPLED, "no field 'runs'"),
        ("[data]\n", f'[data]\nmore = "{sha256(b"")}"\n', SAMPLED, "more is only in one"),
        ("test = ", "other = ", SAMPLED, "other is only in one"),
        (str(sha256(DATA.encode())), str(sha256(b"")), SAMPLED, "the input test is"),
        (str(sha256(b"11")), str(sha256(b"12")), SAMPLED, "the input model is"),
        (str(sha256(GUESS.encode())), str(sha256(b"")), SAMPLED, "the script '"),
        ('["accuracy"]', '["f1"]', SAMPLED, "measures exactly f1"),
        ("sample = 20", "sample = 21", SAMPLED, "parameter sample is 21, this evaluation's 20"),
        ("sample = 20", "", SAMPLED, "parameter sample is nothing"),
        ("", "", (*SAMPLED, "--labels=other"), "this evaluation's 'column:other'"),
        ("", "", (*SAMPLED, "--sensitive=x"), "parameter sensitive is nothing"),
        ('seed = "nonce"', 'seed = "none"', SAMPLED, "plan.parameters.sample"),
        ("", "", (*SAMPLED, "--seed=5"), "--seed 5: the plan's rule is nonce"),
        ("", "", ("--labels=label", "--sample=20"), "give it with --nonce"),
        ('seed = "nonce"', "seed = 3", (*SAMPLED, "--seed=nonce"), "the plan's rule is 3"),
    ],
)
def test_what_contradicts_the_plan_takes_no_number(
    lab: Lab, old: str, new: str, words: tuple[str, ...], said: str
) -> None:
    before = len(lab.ledger())
    lab.plan(PLAN.replace(old, new) if old else PLAN)
    ran = lab.evaluate(*words)
    assert (ran.status, lab.has_card) == (FAILURE_STATUS, False)
    assert said in ran.stderr
    assert len(lab.ledger()) == before


@pytest.mark.parametrize(
    ("stamped", "trust", "said"),
    [
        (PLAN + "#", "trust", "time.imprint"),
        (PLAN, "elsewhere", "time.chain"),
    ],
)
def test_a_time_stamp_that_is_not_good_takes_no_number(
    lab: Lab, stamped: str, trust: str, said: str
) -> None:
    before = len(lab.ledger())
    (lab.folder / "elsewhere").mkdir()
    lab.plan(PLAN, stamped)
    ran = lab.evaluate(*SAMPLED, f"--plan-trust={trust}")
    assert (ran.status, lab.has_card) == (FAILURE_STATUS, False)
    assert said in ran.stderr
    assert len(lab.ledger()) == before


def test_a_time_stamp_that_is_none(lab: Lab) -> None:
    (lab.folder / "plan.tsr").write_bytes(b"\x30\x00")
    ran = lab.evaluate(*SAMPLED)
    assert ran.status == FAILURE_STATUS
    assert "no RFC 3161 response" in ran.stderr


def test_the_planned_machine_and_its_numbers(lab: Lab) -> None:
    key = lab.key()
    number = lab.card().claims.run.number
    table = f'[machine]\nkey = "{key}"\nfirst-run = {number + 1}\n'
    lab.plan(PLAN.replace("runs = 2", "runs = 1") + table)
    before = len(lab.ledger())
    assert lab.evaluate(*SAMPLED).status == 0
    assert lab.verify(nonce=NONCE).accepted
    checks = {each.id: each.verdict for each in lab.verify(nonce=NONCE).checks}
    assert checks["plan.runs"] == "pass"
    ran = lab.evaluate(*SAMPLED)
    assert ran.status == FAILURE_STATUS
    assert f"the next is {number + 2}" in ran.stderr
    assert len(lab.ledger()) == before + 2
    lab.plan(PLAN + table.replace(key, str(sha256(b"another machine"))))
    ran = lab.evaluate(*SAMPLED)
    assert ran.status == FAILURE_STATUS
    assert f"this one has {key}" in ran.stderr


def test_a_planned_evaluation_on_a_simulated_machine(machine: Machine, tmp_path: Path) -> None:
    """The plan is stamped by the machine's own authority; the default trust is the machine's."""
    folder = Folder(machine.folder.root)
    for path, content in {"model.bin": "11", "code.py": GUESS, "test.csv": DATA}.items():
        (tmp_path / path).write_text(content)
    (tmp_path / "plan.toml").write_text(PLAN)
    query = make_query(PLAN.encode(), "sha256")
    (tmp_path / "plan.tsr").write_bytes(machine_authority(folder).reply(query.der))
    words = [*LAMINATOR, "evaluate", *WORDS, f"--simulated={folder.root}", "--plan=plan.toml"]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "XDG_STATE_HOME": str(tmp_path / "s")}
    done = subprocess.run(
        [*words, *SAMPLED], cwd=tmp_path, env=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    policy = load_policy(str(folder.policy))
    asked = ("plan.digest", "plan.token", "plan.metric", "plan.data", "plan.seed", "plan.model")
    result = verify(
        (tmp_path / "train.card").read_bytes(),
        policy._replace(require=(*policy.require, *asked, "plan.parameters")),
        trust=load_trust(str(folder.trust)),
        now=dt.datetime.now(tz=dt.UTC),
        nonce=NONCE,
    )
    assert result.accepted, result.failures()
    assert "plan.declared" not in {caveat.code for caveat in result.caveats}


# --- seeds


SEEDED = """
import json
from laminator import workload

seeds = [workload.seed(), workload.seed()]
assert seeds[0] == seeds[1]
print(json.dumps(seeds[0]))
"""


@pytest.mark.parametrize("rule", ["7", "nonce"])
def test_a_workload_gets_the_run_s_seed(lab: Lab, rule: str) -> None:
    ran = lab.run(SEEDED, f"--seed={rule}", "--nonce", NONCE.hex())
    assert ran.status == 0, ran.stderr
    claims = lab.card().claims
    seed = "nonce" if rule == "nonce" else 7
    assert claims.run.seed == seed
    assert json.loads(ran.stdout) == workload_seed(seed_bytes(seed, NONCE))
    assert lab.verify(nonce=NONCE).accepted


def test_a_workload_of_a_run_without_a_seed(lab: Lab) -> None:
    script = """
from laminator import workload
try:
    workload.seed()
except workload.ReportRefusedError as error:
    print(error.code)
"""
    ran = lab.run(script)
    assert (ran.status, ran.stdout) == (0, "channel.seed\n"), ran.stderr
    assert lab.card().claims.run.seed is None


def test_a_seed_from_a_nonce_that_is_not_there(lab: Lab) -> None:
    before = len(lab.ledger())
    ran = lab.run(SEEDED, "--seed=nonce")
    assert ran.status == FAILURE_STATUS
    assert "give it with --nonce" in ran.stderr
    assert len(lab.ledger()) == before


def test_a_sample_that_nobody_could_check(lab: Lab) -> None:
    ran = lab.evaluate("--labels=label", "--sample=20", planned=False)
    assert ran.status == FAILURE_STATUS
    assert "nobody could check" in ran.stderr


def test_a_sample_of_more_rows_than_there_are(lab: Lab) -> None:
    ran = lab.evaluate("--labels=label", "--sample=61", "--seed=1", planned=False)
    assert ran.status == FAILURE_STATUS
    assert "cannot draw 61 of the data's 60 rows" in ran.stderr


def test_the_plan_used_here_is_one() -> None:
    assert parse_plan(PLAN.encode()).parameters["held-back"] == ("other",)
