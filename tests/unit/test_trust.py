import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.adversary import forged_pki as pki
from laminator.appraise import trust
from laminator.appraise.trust import Anchor, TrustStore, add_anchor, load_crls, load_trust
from laminator.errors import UsageError


def pem(authority: pki.Authority) -> bytes:
    return authority.certificate.public_bytes(Encoding.PEM)


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def kinds(store: TrustStore) -> dict[str, str]:
    return {anchor.subject: anchor.kind for anchor in store.anchors}


def test_a_store_reads_anchors_of_every_folder_with_its_kind(tmp_path: Path) -> None:
    plain, tpm, snp = (pki.root(label) for label in ("plain", "a maker", "another maker"))
    put(tmp_path / "plain.pem", pem(plain))
    put(tmp_path / "tpm/maker.der", tpm.der)
    put(tmp_path / "snp/maker.crt", pem(snp))
    put(tmp_path / "README.txt", b"no certificate")
    put(tmp_path / ".git/config.pem", b"no certificate")
    (tmp_path / "tpm/folder.pem").mkdir()
    put(tmp_path / "crls/one.crl", pki.crl(plain).public_bytes(Encoding.DER))
    put(tmp_path / "crls/two.pem", pki.crl(tpm).public_bytes(Encoding.PEM))
    store = load_trust(str(tmp_path))
    assert kinds(store) == {
        "CN=plain": "simulated",
        "CN=a maker": "tpm",
        "CN=another maker": "snp",
    }
    assert [crl.issuer.rfc4514_string() for crl in store.crls] == ["CN=plain", "CN=a maker"]


def test_an_empty_folder_is_an_empty_store(tmp_path: Path) -> None:
    assert load_trust(str(tmp_path)) == TrustStore()


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_bare_file_is_an_anchor_of_kind_simulated(tmp_path: Path, encoding: Encoding) -> None:
    root = pki.root("bare")
    file = put(tmp_path / "anchor", root.certificate.public_bytes(encoding))
    (anchor,) = load_trust(str(file)).anchors
    assert anchor == Anchor("simulated", root.certificate)
    assert str(anchor.fingerprint).startswith("sha-256:")


def test_a_pem_file_may_hold_several_anchors_and_lists(tmp_path: Path) -> None:
    one, two = pki.root("one"), pki.root("two")
    file = put(tmp_path / "anchors.pem", pem(one) + b"\n" + pem(two) + pem(one))
    assert [anchor.subject for anchor in load_trust(str(file)).anchors] == ["CN=one", "CN=two"]
    lists = b"".join(pki.crl(item).public_bytes(Encoding.PEM) for item in (one, two))
    assert len(load_crls(str(put(tmp_path / "lists.pem", lists)))) == 2


def test_collateral_adds_to_a_store_and_leaves_it_as_it_is() -> None:
    root = pki.root("one")
    store = TrustStore((Anchor("tpm", root.certificate),))
    more = store.with_crls((pki.crl(root),))
    assert len(more.crls) == 1
    assert store.crls == ()


def test_one_certificate_as_two_kinds_is_refused(tmp_path: Path) -> None:
    root = pki.root("double")
    put(tmp_path / "tpm/one.pem", pem(root))
    put(tmp_path / "simulated/two.der", root.der)
    with pytest.raises(UsageError, match="as simulated and as tpm"):
        load_trust(str(tmp_path))


def test_a_folder_that_is_no_kind_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "tpms/one.pem", pem(pki.root("one")))
    with pytest.raises(UsageError, match="no kind of anchor"):
        load_trust(str(tmp_path))


@pytest.mark.parametrize(
    "data",
    [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
)
def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path, data: bytes) -> None:
    put(tmp_path / "bad.pem", data)
    with pytest.raises(UsageError, match="not a certificate in PEM or DER"):
        load_trust(str(tmp_path))


@pytest.mark.parametrize(
    "data", [b"", b"no list", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"]
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UsageError, match="not a CRL in PEM or DER"):
        load_crls(str(put(tmp_path / "bad.crl", data)))


def _lists() -> bytes:
    return b"".join(pki.crl(pki.root(n)).public_bytes(Encoding.PEM) for n in ("one", "two"))


@pytest.mark.parametrize(
    "damaged",
    [
        _lists()[:-10],
        _lists().replace(b"-----END X509 CRL-----", b"-----END X509 CRL----", 1),
        _lists().replace(b"X509 CRL", b"X509 CLR", 2),
        _lists().replace(b"-----BEGIN", b"----BEGIN", 1),
        _lists()[30:],
        pem(pki.root("no list")),
        _lists() + pem(pki.root("no list")),
    ],
)
def test_a_file_of_lists_that_is_not_whole_is_refused(tmp_path: Path, damaged: bytes) -> None:
    with pytest.raises(UsageError, match=r"lists\.pem is not whole") as caught:
        load_crls(str(put(tmp_path / "lists.pem", damaged)))
    assert caught.value.code == "trust.file"


def test_a_file_of_anchors_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    file = put(tmp_path / "a.pem", pem(pki.root("one")) + pem(pki.root("two"))[:-9])
    with pytest.raises(UsageError, match=r"a\.pem is not whole"):
        load_trust(str(file))


@pytest.mark.parametrize("place", [".", "tpm", "crls"])
def test_a_folder_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    put(tmp_path / "tpm/one.pem", pem(pki.root("one")))
    put(tmp_path / "crls/one.crl", pki.crl(pki.root("one")).public_bytes(Encoding.DER))
    locked, scandir = str((tmp_path / place).resolve()), os.scandir

    def refuse(path: str) -> object:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=f"cannot read {locked}: Permission denied") as caught:
        load_trust(str(tmp_path))
    assert caught.value.code == "trust.file"


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gone.crl").symlink_to("nowhere")
    with pytest.raises(UsageError, match="cannot read"):
        load_crls(str(tmp_path))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("path", ["snp/odd.pem", "crls/odd.crl"])
def test_what_is_no_regular_file_is_refused_unread(tmp_path: Path, path: str) -> None:
    """Nobody has to write to a pipe, and a device never ends."""
    odd = tmp_path / path
    odd.parent.mkdir()
    os.mkfifo(odd)
    with pytest.raises(UsageError, match="neither a file nor a folder") as caught:
        load_trust(str(tmp_path))
    assert caught.value.code == "trust.file"
    odd.unlink()
    odd.symlink_to(os.devnull)
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        load_trust(str(tmp_path))


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    file = put(tmp_path / "root.der", pki.root("pinned").der)
    with pytest.raises(UsageError, match=r"cannot write .*--trust names another store") as caught:
        add_anchor(str(file), "tpm", str(file))
    assert caught.value.code == "trust.store"


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        load_trust(str(tmp_path / "nothing"))


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "large.pem", bytes(trust.MAX_ANCHOR_FILE + 1))
    with pytest.raises(UsageError, match="larger than"):
        load_trust(str(tmp_path))
    monkeypatch.setattr(trust, "MAX_FILES", 0)
    with pytest.raises(UsageError, match="holds 1 files"):
        load_trust(str(tmp_path))


def test_limits_themselves_are_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pki.root("one")
    put(tmp_path / "one.der", root.der)
    monkeypatch.setattr(trust, "MAX_FILES", 1)
    monkeypatch.setattr(trust, "MAX_ANCHOR_FILE", len(root.der))
    assert len(load_trust(str(tmp_path)).anchors) == 1


def test_a_pinned_anchor_is_read_back(tmp_path: Path) -> None:
    root = pki.root("pinned")
    file = put(tmp_path / "download.der", root.der)
    store = tmp_path / "new/store"
    anchor = add_anchor(str(store), "tpm", str(file))
    assert anchor == Anchor("tpm", root.certificate)
    assert add_anchor(str(store), "tpm", str(file)) == anchor
    assert load_trust(str(store)).anchors == (anchor,)
    assert [path.name for path in (store / "tpm").iterdir()] == [
        f"{anchor.fingerprint.value.hex()}.pem"
    ]


def test_pinning_as_another_kind_is_refused(tmp_path: Path) -> None:
    file = put(tmp_path / "root.der", pki.root("pinned").der)
    store = tmp_path / "store"
    add_anchor(str(store), "tpm", str(file))
    with pytest.raises(UsageError, match="as tpm and as snp"):
        add_anchor(str(store), "snp", str(file))


def test_pinning_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    file = put(tmp_path / "root.der", pki.root("pinned").der)
    with pytest.raises(UsageError, match="no kind of anchor"):
        add_anchor(str(tmp_path / "store"), "hardware", str(file))


def test_pinning_two_certificates_at_once_is_refused(tmp_path: Path) -> None:
    file = put(tmp_path / "two.pem", pem(pki.root("one")) + pem(pki.root("two")))
    with pytest.raises(UsageError, match="2 certificates, not one"):
        add_anchor(str(tmp_path / "store"), "tpm", str(file))


@pytest.mark.parametrize("ca", [False, None])
def test_pinning_a_certificate_that_is_no_authoritys_is_refused(
    tmp_path: Path, ca: bool | None
) -> None:
    file = put(tmp_path / "leaf.der", pki.root("leaf", ca=ca).der)
    with pytest.raises(UsageError, match="not an authority's"):
        add_anchor(str(tmp_path / "store"), "tpm", str(file))


def test_the_users_store_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert trust.default_store() == "/data/laminator/trust"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert trust.default_store() == "/home/someone/.local/share/laminator/trust"
    monkeypatch.setenv("XDG_DATA_HOME", "handed/over")
    assert trust.default_store() == "/home/someone/.local/share/laminator/trust"
