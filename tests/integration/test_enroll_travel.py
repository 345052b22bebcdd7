"""Enrolment that travels as files: a machine's user and an authority at their command lines."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cddl import fitting_card
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from enrolment import Desk, Manufacturer, Prover, desk, laminator, manufacturer, spawned
from raw_swtpm import RawSwtpm, running_swtpm
from tpm2_tools import Tools, from_tools, to_tools, tools_for

from enclave_sim.adversary import forged_manufacturer as ek_pki
from laminator.attest.tpm import AttestationTpm
from laminator.enroll.ak_certificate import Authority
from laminator.enroll.authority import check_counter
from laminator.enroll.exchange import (
    EnrolmentRequest,
    EnrolmentResponse,
    digest,
    encode_challenge,
    encode_request,
    encode_response,
    parse_challenge,
    parse_grant,
    parse_request,
    parse_response,
)
from laminator.enroll.key_templates import (
    EK_ECC_P256,
    EK_ECC_P384,
    EK_RSA_2048,
    EK_TEMPLATES,
    EkTemplate,
)
from laminator.evidence.tpm import parse_tpm_evidence
from laminator.evidence.tpm_key import PublicKey, public_key
from laminator.evidence.tpm_structures import (
    COUNTER_ATTRIBUTES,
    PLATFORMCREATE,
    RUN_COUNTER_INDEX,
    NvPublic,
    marshal_nv_public,
    marshal_public,
    name,
    parse_nv_public,
    parse_public,
)
from laminator.evidence.tpm_wire import ALG_SHA256, sized

COUNTER = NvPublic(RUN_COUNTER_INDEX, ALG_SHA256, COUNTER_ATTRIBUTES, b"", 8)
SECRET = bytes(range(32))

each_ek = pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda each: str(each.name))


@pytest.fixture(scope="module")
def maker() -> Manufacturer:
    return manufacturer()


@pytest.fixture(scope="module")
def authority(maker: Manufacturer, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return desk(tmp_path_factory.mktemp("desk"), maker)


@pytest.fixture(scope="module")
def swtpm() -> Iterator[RawSwtpm]:
    with running_swtpm() as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the one user of `swtpm`: he has the run counter's secret."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def prover(swtpm: RawSwtpm, home: Path) -> Prover:
    return Prover(swtpm.tcti, home)


def ek_key(swtpm: RawSwtpm, template: EkTemplate) -> PublicKey:
    with AttestationTpm(swtpm.tcti) as tpm:
        return public_key(parse_public(tpm.endorsement_public(template)))


def ek_file(folder: Path, swtpm: RawSwtpm, maker: Manufacturer, template: EkTemplate) -> str:
    """Write the EK's certificate, and the one above it, where a manufacturer's site has them."""
    path = folder / "ek.pem"
    chain = (maker.ek_certificate(ek_key(swtpm, template)), maker.issuer.certificate)
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
    return str(path)


class Stick:
    """A folder that travels, and what is done with it on both sides."""

    def __init__(self, folder: Path, prover: Prover, authority: Desk) -> None:
        self.folder = folder
        self.prover = prover
        self.authority = authority

    def path(self, suffix: str) -> str:
        return str(self.folder / f"m.{suffix}")

    def read(self, suffix: str) -> bytes:
        return Path(self.path(suffix)).read_bytes()

    def request(self, *options: str) -> EnrolmentRequest:
        ran = self.prover.run("request", "--out", self.path("request"), *options)
        assert ran.status == 0, ran.stderr
        return parse_request(self.read("request"))

    def travel(self, *options: str) -> None:
        """Bring the request to the authority and back until there is a grant."""
        steps = (
            self.authority.run("challenge", self.path("request")),
            self.prover.run("respond", self.path("challenge"), *options),
            self.authority.run("issue", self.path("response")),
        )
        for ran in steps:
            assert ran.status == 0, ran.stderr
        fingerprint = parse_challenge(self.read("challenge")).authority.hex()
        assert steps[1].facts["authority"] == fingerprint


@pytest.fixture
def stick(tmp_path: Path, prover: Prover, authority: Desk) -> Stick:
    return Stick(tmp_path, prover, authority)


@each_ek
@pytest.mark.parametrize("ak", ["ecc", "rsa"])
def test_a_key_gets_its_certificate(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer, template: EkTemplate, ak: str
) -> None:
    certificate = ek_file(stick.folder, swtpm, maker, template)
    request = stick.request("--ak", ak, "--ek", template.name, "--ek-certificate", certificate)
    assert public_key(parse_public(request.ek)) == ek_key(swtpm, template)
    stick.travel()
    installed = stick.prover.run("install", stick.path("grant"))
    assert installed.status == 0, installed.stderr
    path = Path(installed.facts["certificate"])
    assert path.parent == stick.prover.keys
    (found,) = x509.load_pem_x509_certificates(path.read_bytes())
    assert found.public_key() == public_key(parse_public(request.ak))
    serials = [item["serial"] for item in stick.authority.run("list").facts["certificates"]]
    assert f"{found.serial_number:x}" in serials


def test_a_run_with_the_installed_certificate_is_accepted(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    stick.request("--ek-certificate", ek_file(stick.folder, swtpm, maker, EK_ECC_P256))
    stick.travel()
    installed = stick.prover.run("install", stick.path("grant"))
    assert installed.facts["next"].startswith(f"laminator run --attester tpm:{swtpm.tcti} -- ")
    crl = stick.authority.run("crl").facts["crl"]
    (stick.folder / "train.py").write_text("print('trained')\n")
    options = (f"--attester=tpm:{swtpm.tcti}", "--", sys.executable, "train.py")
    ran = spawned(stick.prover.variables, "run", *options, cwd=stick.folder)
    assert (ran.status, ran.stdout) == (0, "trained\n"), ran.stderr
    policy = stick.folder / "policy.toml"
    policy.write_text(
        'version = 1\nroots = ["simulated"]\ncoverage = "none"\ndata-chosen-by = "provider"\n'
        'unknown-code = "allow"\n'
    )
    root = stick.authority.folder / "authority.pem"
    verify = ["verify", str(stick.folder / "train.card"), "--trust", str(root)]
    verify += ["--policy", str(policy), "--json", "--collateral"]
    verified = laminator(stick.prover.variables, *verify, crl)
    assert verified.status == 0, verified.stdout + verified.stderr
    # The same card when its certificate has been revoked.
    serial = parse_grant(stick.read("grant")).certificates[0]
    number = f"{x509.load_der_x509_certificate(serial).serial_number:x}"
    stick.authority.run("revoke", "--certificate", number, "--reason", "superseded")
    again = stick.authority.run("crl", "--out", str(stick.folder / "new.crl"))
    assert again.status == 0
    verified = laminator(stick.prover.variables, *verify, str(stick.folder / "new.crl"))
    assert verified.status == 1
    assert "ak.revocation" in verified.stdout


# --- tpm2-tools


@pytest.fixture
def tools(swtpm: RawSwtpm, tmp_path: Path) -> Iterator[Tools]:
    with tools_for(swtpm, tmp_path) as found:
        yield found


@each_ek
def test_a_machine_with_tpm2_tools_alone_gets_its_certificate(
    stick: Stick, tools: Tools, maker: Manufacturer, template: EkTemplate
) -> None:
    tools.create_ek(template)
    tools.create_ak()
    ek, ak = tools.read_public("ek.ctx"), tools.read_public("ak.ctx")
    chain = (maker.ek_certificate(public_key(parse_public(ek))), maker.issuer.certificate)
    request = EnrolmentRequest(
        ak, ek, tuple(each.public_bytes(Encoding.DER) for each in chain), marshal_nv_public(COUNTER)
    )
    Path(stick.path("request")).write_bytes(encode_request(request))
    assert stick.authority.run("challenge", stick.path("request")).status == 0
    challenge = stick.read("challenge")
    (stick.folder / "credential").write_bytes(to_tools(parse_challenge(challenge).credential))
    tools.activate(template, "credential", "opened")
    secret = (stick.folder / "opened").read_bytes()
    response = encode_response(EnrolmentResponse(digest(challenge), secret))
    Path(stick.path("response")).write_bytes(response)
    assert stick.authority.run("issue", stick.path("response")).status == 0
    certificate = x509.load_der_x509_certificate(parse_grant(stick.read("grant")).certificates[0])
    assert certificate.public_key() == public_key(parse_public(ak))


@each_ek
def test_the_machine_answers_a_challenge_that_tpm2_tools_made(
    stick: Stick, tools: Tools, swtpm: RawSwtpm, maker: Manufacturer, template: EkTemplate
) -> None:
    certificate = ek_file(stick.folder, swtpm, maker, template)
    request = stick.request("--ek", template.name, "--ek-certificate", certificate)
    (stick.folder / "ek.pub").write_bytes(sized(request.ek))
    (stick.folder / "secret").write_bytes(SECRET)
    command = ["tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret"]
    tools.run(*command, "-n", name(parse_public(request.ak)).hex(), "-o", "credential")
    assert stick.authority.run("challenge", stick.path("request")).status == 0
    ours = parse_challenge(stick.read("challenge"))
    theirs = from_tools((stick.folder / "credential").read_bytes())
    Path(stick.path("challenge")).write_bytes(encode_challenge(ours._replace(credential=theirs)))
    assert stick.prover.run("respond", stick.path("challenge")).status == 0
    assert parse_response(stick.read("response")).secret == SECRET


# --- where EK certificates come from


def test_certificates_in_the_tpm_need_no_files(
    tmp_path: Path, maker: Manufacturer, authority: Desk
) -> None:
    """A P-256 certificate at 0x01c0000a, and the one above it at 0x01c00100."""
    with running_swtpm() as fresh, tools_for(fresh, tmp_path) as tools:
        certificate = maker.ek_certificate(ek_key(fresh, EK_ECC_P256))
        contents = {"0x01c0000a": certificate, "0x01c00100": maker.issuer.certificate}
        for index, each in contents.items():
            data = each.public_bytes(Encoding.DER) + b"\xff" * 20
            (tmp_path / "nv").write_bytes(data)
            attributes = "ownerwrite|ownerread|authread|no_da"
            tools.run(
                "tpm2_nvdefine", "-Q", index, "-C", "o", "-s", str(len(data)), "-a", attributes
            )
            tools.run("tpm2_nvwrite", "-Q", index, "-C", "o", "-i", "nv")
        stick = Stick(tmp_path, Prover(fresh.tcti, tmp_path / "home"), authority)
        request = stick.request()
        expected = (certificate, maker.issuer.certificate)
        assert request.ek_certificates == tuple(
            each.public_bytes(Encoding.DER) for each in expected
        )
        stick.travel()
        assert stick.prover.run("install", stick.path("grant")).status == 0


def _swtpm_authority(folder: Path, maker: Manufacturer) -> Manufacturer:
    """Return swtpm's local authority (root and issuer) as a manufacturer of today."""
    authorities = []
    for certificate, key in (
        ("swtpm-localca-rootca-cert", "swtpm-localca-rootca-privkey"),
        ("issuercert", "signkey"),
    ):
        pem = (folder / f"{certificate}.pem").read_bytes()
        private = serialization.load_pem_private_key((folder / f"{key}.pem").read_bytes(), None)
        assert isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        authorities.append(Authority(x509.load_pem_x509_certificate(pem), private))
    return Manufacturer(authorities[0], authorities[1], maker.now)


@pytest.mark.parametrize("template", [EK_RSA_2048, EK_ECC_P384], ids=lambda each: str(each.name))
def test_a_tpm_of_swtpm_setup(
    tmp_path: Path, maker: Manufacturer, authority: Desk, template: EkTemplate
) -> None:
    """Its own authority may sign no CRLs, so only a certificate of another one helps."""
    with running_swtpm(manufactured=True) as made:
        folder = made.socket_path.parent / "ca"
        local = desk(tmp_path, _swtpm_authority(folder, maker))
        stick = Stick(tmp_path, Prover(made.tcti, tmp_path / "home"), authority)
        chain = ("--ek-certificate", str(folder / "issuercert.pem"))
        request = stick.request("--ek", template.name, *chain)
        assert public_key(parse_public(request.ek)) == ek_key(made, template)
        assert local.run("challenge", stick.path("request")).refusal == "ek.crl"
        certificate = ek_file(tmp_path, made, maker, template)
        stick.request("--ek", template.name, "--ek-certificate", certificate)
        stick.travel()
        assert stick.prover.run("install", stick.path("grant")).status == 0


def test_a_tpm_without_certificates_says_so(stick: Stick) -> None:
    ran = stick.prover.run("request", "--out", stick.path("request"))
    assert ran.status == 2
    assert "--ek-certificate" in ran.stderr
    assert not Path(stick.path("request")).exists()


def test_a_file_that_is_no_certificate_is_passed_over(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    garbage = stick.folder / "garbage.der"
    garbage.write_bytes(b"\x30\x03abc")
    files = (str(garbage), ek_file(stick.folder, swtpm, maker, EK_ECC_P256))
    request = stick.request(*(word for path in files for word in ("--ek-certificate", path)))
    assert public_key(parse_public(request.ek)) == ek_key(swtpm, EK_ECC_P256)
    assert request.ek_certificates[1] == garbage.read_bytes()
    refused = stick.authority.run("challenge", stick.path("request"))
    assert refused.refusal == "certificate.der"


def test_too_many_certificates_are_misuse(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    path = Path(ek_file(stick.folder, swtpm, maker, EK_ECC_P256))
    others = [
        ek_pki.ca(f"Authority {number}").certificate.public_bytes(Encoding.PEM)
        for number in range(8)
    ]
    path.write_bytes(path.read_bytes() + b"".join(others))
    ran = stick.prover.run("request", "--out", stick.path("request"), "--ek-certificate", str(path))
    assert ran.status == 2
    assert "a request takes 9" in ran.stderr


# --- labels


def test_each_label_has_a_key_of_its_own(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    certificate = ek_file(stick.folder, swtpm, maker, EK_ECC_P256)
    keys = [
        stick.request("--ak", ak, "--ek-certificate", certificate, *label).ak
        for ak in ("ecc", "rsa")
        for label in ((), ("--label=acme",), ("--label=bolt",), ("--label=acme",))
    ]
    assert keys[1] == keys[3]
    assert keys[5] == keys[7]
    assert len(set(keys)) == 6


def test_a_labelled_key_is_enrolled_beside_the_others(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    certificate = ek_file(stick.folder, swtpm, maker, EK_ECC_P256)
    request = stick.request("--ek-certificate", certificate, "--label=acme")
    assert b"acme" not in stick.read("request")
    stick.travel("--label=acme")
    installed = stick.prover.run("install", stick.path("grant"), "--label=acme")
    path = stick.prover.keys / "labels" / "acme" / "ecdsa-p256.pem"
    assert Path(installed.facts["certificate"]) == path
    (found,) = x509.load_pem_x509_certificates(path.read_bytes())
    assert found.public_key() == public_key(parse_public(request.ak))
    plain = stick.prover.keys / "ecdsa-p256.pem"
    assert not plain.exists() or path.read_bytes() != plain.read_bytes()
    refused = stick.prover.run("install", stick.path("grant"))
    assert refused.refusal == "grant.key"
    assert "--label" in refused.stderr
    unlabelled = stick.prover.run("respond", stick.path("challenge"))
    assert unlabelled.status == 2
    assert "--label" in unlabelled.stderr


@pytest.mark.parametrize("label", ["", "../up", "a/b", ".hidden", "x" * 65, "ä"])
def test_a_label_is_a_plain_name(stick: Stick, label: str) -> None:
    ran = stick.prover.run("request", "--out", stick.path("request"), f"--label={label}")
    assert ran.status == 2
    assert "label" in ran.stderr


# --- the run counter


def test_the_counter_is_made_once_and_its_secret_kept(
    tmp_path: Path, maker: Manufacturer, authority: Desk
) -> None:
    with running_swtpm() as fresh:
        stick = Stick(tmp_path, Prover(fresh.tcti, tmp_path / "home"), authority)
        certificate = ek_file(tmp_path, fresh, maker, EK_ECC_P256)
        first = stick.request("--ek-certificate", certificate)
        secret = stick.prover.keys / "counter.auth"
        kept = secret.read_bytes()
        assert secret.stat().st_mode & 0o777 == 0o600
        assert len(bytes.fromhex(kept.decode())) == 32
        assert parse_nv_public(first.counter) == COUNTER
        assert check_counter(first.counter) == name(COUNTER)
        assert stick.request("--ek-certificate", certificate) == first
        assert secret.read_bytes() == kept
        secret.write_text("00" * 32)
        ran = stick.prover.run("request", "--ek-certificate", certificate)
        assert ran.status == 2
        assert "counter.auth" in ran.stderr
        secret.write_text("no hex")
        assert (
            stick.prover.run("request", "--ek-certificate", certificate).refusal == "enrol.counter"
        )


def test_an_index_that_is_in_use_is_refused(
    tmp_path: Path, maker: Manufacturer, authority: Desk
) -> None:
    with running_swtpm() as fresh, tools_for(fresh, tmp_path) as tools:
        attributes = "ownerwrite|ownerread|authread|authwrite"
        index = f"{RUN_COUNTER_INDEX:#x}"
        tools.run("tpm2_nvdefine", "-Q", index, "-C", "o", "-s", "8", "-a", attributes)
        stick = Stick(tmp_path, Prover(fresh.tcti, tmp_path / "home"), authority)
        certificate = ek_file(tmp_path, fresh, maker, EK_ECC_P256)
        ran = stick.prover.run("request", "--ek-certificate", certificate)
        assert ran.refusal == "counter.public"
        assert f"tpm2_nvundefine {index}" in ran.stderr


def test_hierarchies_with_secrets_are_opened_with_files(
    tmp_path: Path, maker: Manufacturer, authority: Desk
) -> None:
    with running_swtpm() as fresh, tools_for(fresh, tmp_path) as tools:
        certificate = ek_file(tmp_path, fresh, maker, EK_ECC_P256)
        tools.run("tpm2_changeauth", "-c", "owner", "mine")
        tools.run("tpm2_changeauth", "-c", "endorsement", "ours")
        stick = Stick(tmp_path, Prover(fresh.tcti, tmp_path / "home"), authority)
        ran = stick.prover.run("request", "--ek-certificate", certificate)
        assert (ran.status, "authorisation value is wrong" in ran.stderr) == (2, True)
        (tmp_path / "owner").write_bytes(b"mine")
        (tmp_path / "endorsement").write_bytes(b"ours")
        secrets = (f"--endorsement-auth-file={tmp_path}/endorsement",)
        owner = f"--owner-auth-file={tmp_path}/owner"
        stick.request("--ek-certificate", certificate, owner, *secrets)
        stick.travel(*secrets)
        assert stick.prover.run("install", stick.path("grant"), *secrets).status == 0


def test_a_certificate_that_names_another_counter_is_not_installed(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    request = stick.request("--ek-certificate", ek_file(stick.folder, swtpm, maker, EK_ECC_P256))
    platforms = COUNTER._replace(attributes=COUNTER_ATTRIBUTES | PLATFORMCREATE)
    changed = request._replace(counter=marshal_nv_public(platforms))
    Path(stick.path("request")).write_bytes(encode_request(changed))
    stick.travel()
    assert stick.prover.run("install", stick.path("grant")).refusal == "grant.counter"


def test_a_machine_does_not_answer_for_another(
    tmp_path: Path, stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    stick.request("--ek-certificate", ek_file(stick.folder, swtpm, maker, EK_ECC_P256))
    assert stick.authority.run("challenge", stick.path("request")).status == 0
    with running_swtpm() as other:
        ran = Prover(other.tcti, tmp_path / "elsewhere").run("respond", stick.path("challenge"))
    assert ran.status == 2
    assert "another TPM" in ran.stderr


def test_a_tpm_that_is_not_there_is_named(tmp_path: Path) -> None:
    prover = Prover(f"swtpm:path={tmp_path}/none", tmp_path)
    ran = prover.run("request", "--out", str(tmp_path / "x"))
    assert ran.status == 2
    assert ran.stderr.startswith("laminator enroll: the TPM could not")
    for attester in ("sgx", "tpm:", f"tmp:swtpm:path={tmp_path}/none"):
        ran = laminator(prover.variables, "enroll", "request", f"--attester={attester}")
        assert (ran.status, "auto or tpm:TCTI" in ran.stderr) == (2, True)


def test_a_file_of_another_kind_is_refused(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    stick.request("--ek-certificate", ek_file(stick.folder, swtpm, maker, EK_ECC_P256))
    assert stick.prover.run("respond", stick.path("request")).refusal == "exchange.kind"
    assert stick.prover.run("install", stick.path("request")).refusal == "exchange.kind"
    assert stick.authority.run("issue", stick.path("request")).refusal == "exchange.kind"
    (stick.folder / "m.challenge").write_bytes(b"\xff")
    assert stick.prover.run("respond", stick.path("challenge")).refusal.startswith("cbor.")


def test_a_run_uses_the_key_of_its_label(
    stick: Stick, swtpm: RawSwtpm, maker: Manufacturer
) -> None:
    certificate = ek_file(stick.folder, swtpm, maker, EK_ECC_P256)
    (stick.folder / "train.py").write_text("print('trained')\n")
    run = ("run", f"--attester=tpm:{swtpm.tcti}")
    keys = []
    for label in ("acme", "bolt"):
        request = stick.request("--ek-certificate", certificate, f"--label={label}")
        stick.travel(f"--label={label}")
        installed = stick.prover.run("install", stick.path("grant"), f"--label={label}")
        assert f"--label {label} " in installed.facts["next"]
        options = (f"--label={label}", "--", sys.executable, "train.py")
        ran = spawned(stick.prover.variables, *run, *options, cwd=stick.folder)
        assert ran.status == 0, ran.stderr
        card = fitting_card((stick.folder / "train.card").read_bytes())
        evidence = parse_tpm_evidence(card.evidence[0].value)
        assert marshal_public(evidence.ak) == request.ak
        assert len(evidence.certificates) == 1
        keys.append(evidence.ak)
    assert keys[0] != keys[1]
    options = ("--label=nobody", "--", sys.executable, "train.py")
    ran = spawned(stick.prover.variables, *run, *options, cwd=stick.folder)
    assert (ran.status, "not enrolled" in ran.stderr) == (125, True)
    options = ("--label=../x", "--", sys.executable, "train.py")
    assert spawned(stick.prover.variables, *run, *options, cwd=stick.folder).status == 125
