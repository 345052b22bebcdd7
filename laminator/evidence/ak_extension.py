"""The private extension of an AK certificate: kind of anchor, and the run counter's Name.

A non-critical X.509 v3 extension under a UUID-based object identifier (ITU-T X.667). Its value
is deterministic CBOR: {"anchor": tstr, "counter": bstr}.
"""

from typing import NamedTuple

from laminator import cbor
from laminator.fields import Fields, choice, octets

AK_EXTENSION_OID = "2.25.120092976650980215761188202968283475597"
ANCHOR_KINDS = ("simulated", "tpm", "cloud-vtpm", "sgx", "tdx", "snp", "nitro")

_MAX_EXTENSION = 256
_LEAST_NAME, _MOST_NAME = 34, 50


class AkExtension(NamedTuple):
    """What an authority says of an AK besides its key.

    `anchor`: the kind of anchor that the EK's certificate chained to. `counter_name`: the TPM Name
    of the run counter's NV index with TPMA_NV_WRITTEN set (nameAlg || digest, 34 to 50 bytes).
    """

    anchor: str
    counter_name: bytes


def parse_ak_extension(data: bytes) -> AkExtension:
    """Parse the extension's value. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=_MAX_EXTENSION), "ak-extension")
    extension = AkExtension(
        fields.take("anchor", choice(*ANCHOR_KINDS)),
        fields.take("counter", octets(_LEAST_NAME, _MOST_NAME)),
    )
    fields.close()
    return extension


def encode_ak_extension(extension: AkExtension) -> bytes:
    """Return the extension's value."""
    return cbor.encode({"anchor": extension.anchor, "counter": extension.counter_name})
