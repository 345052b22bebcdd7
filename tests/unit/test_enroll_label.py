"""Labels: other templates of the same kind of key."""

from typing import cast

import pytest

from laminator.attest.tpm import AttestationTpm
from laminator.cli.enroll import configure
from laminator.enroll.ak_label import labelled
from laminator.enroll.key_templates import (
    AK_ECDSA_P256,
    AK_RSASSA_2048,
    AK_TEMPLATES,
    EK_TEMPLATES,
    AkTemplate,
)
from laminator.enroll.request import _kept_chain, ek_templates, split_certificates
from laminator.errors import UsageError
from laminator.evidence.tpm_structures import EccPublic, RsaPublic, marshal_public, parse_public


@pytest.mark.parametrize("template", AK_TEMPLATES, ids=lambda each: str(each.name))
def test_a_label_changes_unique_alone(template: AkTemplate) -> None:
    plain, one, other = (labelled(template, label) for label in (None, "one", "other"))
    assert plain is template
    assert labelled(template, "one") == one
    assert one != other
    for changed in (one, other):
        public = parse_public(marshal_public(changed.public))
        if isinstance(public, RsaPublic):
            assert public._replace(modulus=b"") == template.public
            assert len(public.modulus) == 256
        else:
            assert public._replace(x=b"", y=b"") == template.public
            assert (len(public.x), len(public.y)) == (32, 32)


def test_a_label_is_not_in_the_template() -> None:
    public = labelled(AK_ECDSA_P256, "customer").public
    assert isinstance(public, EccPublic)
    assert b"customer" not in marshal_public(public)


@pytest.mark.parametrize("label", ["", ".", "..", "a/b", "-x", "x" * 65, "a b", "a\n", "é"])
def test_other_labels_are_misuse(label: str) -> None:
    with pytest.raises(UsageError) as caught:
        labelled(AK_RSASSA_2048, label)
    assert caught.value.code == "ak.label"


def test_templates_are_found_by_name() -> None:
    assert ek_templates(None) == EK_TEMPLATES
    assert [each.name for each in ek_templates("rsa-2048")] == ["rsa-2048"]
    with pytest.raises(UsageError):
        ek_templates("rsa-4096")


def test_the_options_name_every_template() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    configure(parser)
    for template in EK_TEMPLATES:
        words = ["request", "--ek", template.name]
        assert parser.parse_args(words).ek == template.name


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (b"\x30", 0),
        (b"\xff" * 40, 0),
        (b"\x30\x03abc", 1),
        (b"\x30\x03abc\x30\x81\x02de\xff\xff", 2),
        (b"\x30\x03abc\x30\x82\xff\xff", 1),
        (b"\x30\x7f", 0),
        (b"\x30\xff", 0),
    ],
)
def test_concatenated_certificates_are_split(data: bytes, count: int) -> None:
    parts = split_certificates(data)
    assert len(parts) == count
    assert data.startswith(b"".join(parts))


class FullTpm:
    """A TPM whose every index for the certificates above its EK's is in use."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def read_nv(self, index: int) -> bytes:
        self.read.append(index)
        return b"\x30\x01" + bytes([index & 0xFF])


def test_the_chain_in_the_tpm_is_read_up_to_a_limit() -> None:
    tpm = FullTpm()
    assert len(_kept_chain(cast("AttestationTpm", tpm))) == len(tpm.read) == 16
    assert tpm.read[0] == 0x01C00100
