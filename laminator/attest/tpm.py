"""The prover's TPM 2.0: keys, run counter, log PCR and quotes, over ESAPI.

Commands and structures: TPM 2.0 Parts 2 and 3; NV indices and key templates: TCG EK Credential
Profile for TPM Family 2.0. Every error of the TSS leaves this module as a `MachineError`.
"""

import contextlib
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_SE,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_NV,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMS_NV_PUBLIC,
    TPMT_HA,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMU_HA,
)

from laminator.attest.auths import HierarchyAuths
from laminator.attest.tcti import RelayTcti
from laminator.attest.tss_errors import tss_errors
from laminator.enroll.credential import Credential
from laminator.enroll.key_templates import AK_ECDSA_P256, EK_TEMPLATES, AkTemplate, EkTemplate
from laminator.errors import MachineError
from laminator.evidence.tpm_format import RUN_PCR, SignedAttest
from laminator.evidence.tpm_structures import (
    COUNTER_ATTRIBUTES,
    PLATFORMCREATE,
    RUN_COUNTER_SIZE,
    WRITTEN,
    Public,
    marshal_public,
)

__all__ = [
    "AttestationTpm",
    "CounterCertification",
    "Creator",
    "EndorsementKey",
    "HierarchyAuths",
    "SignedAttest",
    "strip_padding",
]

# Every TPM of the PC Client profile reads at least this many bytes at once.
_NV_READ_BYTES = 512
_NO_SCHEME = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)

Creator = Literal["owner", "platform"]


class CounterCertification(NamedTuple):
    """A certified counter value and the public area (TPMS_NV_PUBLIC) of its index."""

    attest: bytes
    signature: bytes
    nv_public: bytes


class EndorsementKey(NamedTuple):
    """An endorsement key's public area (TPMT_PUBLIC) and its certificate from NV (DER)."""

    template: EkTemplate
    public: bytes
    certificate: bytes


class AttestationTpm:
    """One connection to a TPM, and the attestation key that signs through it.

    The key is a primary of the endorsement hierarchy made from a fixed template, so the same
    TPM gives the same key each time; it is created on first use and flushed on close. At most
    two transient objects are loaded at any time.
    """

    def __init__(
        self,
        connection: int | str,
        auths: HierarchyAuths = HierarchyAuths(),  # noqa: B008  # immutable
        ak: AkTemplate = AK_ECDSA_P256,
    ) -> None:
        """Connect over a descriptor (owned from now on) or a TCTI string such as ``device:``.

        Raises `MachineError` where the TPM does not answer.
        """
        # The TSS prints each refusal; the same text is in the MachineError.
        os.environ.setdefault("TSS2_LOG", "all+NONE")
        self._auths = auths
        self._ak_template = ak
        self._ak: _Primary | None = None
        self._relay = _relay(connection) if isinstance(connection, int) else None
        with tss_errors("be opened"):
            self._esapi = ESAPI(self._relay or connection)
        with tss_errors("take the hierarchies' secrets"):
            self._esapi.tr_set_auth(ESYS_TR.ENDORSEMENT, auths.endorsement)
            self._esapi.tr_set_auth(ESYS_TR.OWNER, auths.owner)
            self._esapi.tr_set_auth(ESYS_TR.PLATFORM, auths.platform)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(MachineError):  # the error on its way says more
            self.close()

    def close(self) -> None:
        """Flush the attestation key and close the connection; again does nothing."""
        if self._esapi.is_closed():
            return
        try:
            if self._ak is not None:
                self._flush(self._ak.handle)
        finally:
            self._esapi.close()
            if self._relay is not None:
                self._relay.close()

    # --- keys

    @property
    def ak_public(self) -> bytes:
        """The attestation key's TPMT_PUBLIC."""
        return self._loaded_ak().public

    def endorsement_public(self, template: EkTemplate) -> bytes:
        """Return the TPMT_PUBLIC of the endorsement key that `template` makes in this TPM."""
        with self._primary(template.public) as ek:
            return ek.public

    def endorsement_certificate(self, template: EkTemplate) -> bytes | None:
        """Return the endorsement key's certificate (DER) from NV without padding, if present."""
        data = self.read_nv(template.certificate_index)
        return None if data is None else strip_padding(data)

    def endorsement_keys(self) -> tuple[EndorsementKey, ...]:
        """Return each endorsement key of a known template that has a certificate in NV."""
        keys = []
        for template in EK_TEMPLATES:
            certificate = self.endorsement_certificate(template)
            if certificate is not None:
                public = self.endorsement_public(template)
                keys.append(EndorsementKey(template, public, certificate))
        return tuple(keys)

    def activate_credential(self, template: EkTemplate, credential: Credential) -> bytes:
        """Return the secret that `credential` protects for this EK and this attestation key.

        Raises `MachineError` where the credential was made for another key or TPM.
        """
        ak = self._loaded_ak()
        with (
            self._primary(template.public) as ek,
            self._ek_authorisation(template) as session,
            tss_errors("open the credential"),
        ):
            secret = self._esapi.activate_credential(
                ak.handle,
                ek.handle,
                TPM2B_ID_OBJECT(credential=credential.blob),
                TPM2B_ENCRYPTED_SECRET(secret=credential.secret),
                session2=session,
            )
            return bytes(secret)

    # --- run counter

    def has_nv_index(self, index: int) -> bool:
        """Return whether the NV index is defined."""
        with tss_errors("list its NV indices"):
            _, capability = self._esapi.get_capability(TPM2_CAP.HANDLES, index, 1)
        return index in [int(handle) for handle in capability.data.handles]

    def define_counter(self, index: int, creator: Creator = "owner") -> None:
        """Define the run counter at `index`, used with the counter's secret.

        A counter of the platform's cannot be undefined with the owner's or endorsement secret.
        Its first increment sets TPMA_NV_WRITTEN, and with it the final Name.
        """
        attributes = COUNTER_ATTRIBUTES & ~WRITTEN
        if creator == "platform":
            attributes |= PLATFORMCREATE
        public = TPMS_NV_PUBLIC(
            nvIndex=index,
            nameAlg=TPM2_ALG.SHA256,
            attributes=TPMA_NV(attributes),
            dataSize=RUN_COUNTER_SIZE,
        )
        hierarchy = ESYS_TR.PLATFORM if creator == "platform" else ESYS_TR.OWNER
        with tss_errors(f"define the run counter as its {creator}"):
            handle = self._esapi.nv_define_space(
                self._auths.counter, TPM2B_NV_PUBLIC(nvPublic=public), auth_handle=hierarchy
            )
            self._esapi.tr_close(handle)

    def counter_public(self, index: int) -> bytes:
        """Return the counter's TPMS_NV_PUBLIC."""
        with self._nv(index, "read the run counter's public area") as handle:
            public, _ = self._esapi.nv_read_public(handle)
            return bytes(public.nvPublic.marshal())

    def increment_counter(self, index: int) -> None:
        """Add one to the run counter."""
        with self._nv(index, "increment the run counter") as handle:
            self._esapi.nv_increment(handle)

    def certify_counter(self, index: int, qualifying_data: bytes) -> SignedAttest:
        """Return the counter's value, signed by the attestation key (TPM2_NV_Certify)."""
        ak = self._loaded_ak()
        with self._nv(index, "certify the run counter") as handle:
            attest, signature = self._esapi.nv_certify(
                ak.handle, handle, qualifying_data, _NO_SCHEME, RUN_COUNTER_SIZE
            )
            return SignedAttest(bytes(attest), bytes(signature.marshal()))

    def count_run(self, index: int, qualifying_data: bytes) -> CounterCertification:
        """Take the next run number and have it certified."""
        self.increment_counter(index)
        certified = self.certify_counter(index, qualifying_data)
        return CounterCertification(*certified, nv_public=self.counter_public(index))

    # --- log and quotes

    def reset_log(self) -> None:
        """Set the log's PCR to zeros."""
        with tss_errors(f"reset PCR {RUN_PCR}"):
            self._esapi.pcr_reset(ESYS_TR.PCR23)

    def extend_log(self, digest: bytes) -> None:
        """Extend the log's PCR in the SHA-256 bank with 32 bytes."""
        values = TPML_DIGEST_VALUES(
            [TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=digest))]
        )
        with tss_errors(f"extend PCR {RUN_PCR}"):
            self._esapi.pcr_extend(ESYS_TR.PCR23, values)

    def read_pcr(self, pcr: int) -> bytes:
        """Return a PCR of the SHA-256 bank, 32 bytes."""
        with tss_errors(f"read PCR {pcr}"):
            _, _, digests = self._esapi.pcr_read(_selection((pcr,)))
        if not len(digests):
            raise MachineError("tpm.bank", "the TPM has no SHA-256 bank of PCRs; enable it first")
        return bytes(digests[0])

    def quote(self, pcrs: tuple[int, ...], qualifying_data: bytes) -> SignedAttest:
        """Return a quote of PCRs of the SHA-256 bank, signed by the attestation key."""
        ak = self._loaded_ak()
        with tss_errors("quote"):
            attest, signature = self._esapi.quote(ak.handle, _selection(pcrs), qualifying_data)
            return SignedAttest(bytes(attest), bytes(signature.marshal()))

    def read_nv(self, index: int) -> bytes | None:
        """Return what an NV index that anyone may read holds; None where it is not defined."""
        if not self.has_nv_index(index):
            return None
        with self._nv(index, f"read NV index {index:#x}") as handle:
            public, _ = self._esapi.nv_read_public(handle)
            by_index = public.nvPublic.attributes & TPMA_NV.AUTHREAD
            reader = handle if by_index else ESYS_TR.OWNER
            if by_index:
                self._esapi.tr_set_auth(handle, b"")
            data = bytearray()
            size = int(public.nvPublic.dataSize)
            while len(data) < size:
                part = min(_NV_READ_BYTES, size - len(data))
                data += bytes(self._esapi.nv_read(handle, part, len(data), auth_handle=reader))
            return bytes(data)

    # --- inside

    def _loaded_ak(self) -> "_Primary":
        if self._ak is None:
            self._ak = self._create_primary(self._ak_template.public)
        return self._ak

    def _create_primary(self, template: Public) -> "_Primary":
        public, _ = TPMT_PUBLIC.unmarshal(marshal_public(template))
        with tss_errors("create a key in the endorsement hierarchy"):
            handle, created, *_ = self._esapi.create_primary(
                TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=public), ESYS_TR.ENDORSEMENT
            )
            return _Primary(handle, bytes(created.publicArea.marshal()))

    @contextlib.contextmanager
    def _primary(self, template: Public) -> Iterator["_Primary"]:
        primary = self._create_primary(template)
        try:
            yield primary
        finally:
            self._flush(primary.handle)

    @contextlib.contextmanager
    def _ek_authorisation(self, template: EkTemplate) -> Iterator[Any]:
        if not template.takes_policy:
            yield ESYS_TR.PASSWORD
            return
        with tss_errors("start a policy session"):
            session = self._esapi.start_auth_session(
                ESYS_TR.NONE,
                ESYS_TR.NONE,
                TPM2_SE.POLICY,
                TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
                TPM2_ALG.SHA256,
            )
        try:
            with tss_errors("satisfy the endorsement key's policy"):
                self._esapi.policy_secret(ESYS_TR.ENDORSEMENT, session)
            yield session
        finally:
            self._flush(session)

    @contextlib.contextmanager
    def _nv(self, index: int, action: str) -> Iterator[Any]:
        with tss_errors(action):
            handle = self._esapi.tr_from_tpmpublic(index)
            try:
                self._esapi.tr_set_auth(handle, self._auths.counter)
                yield handle
            finally:
                self._esapi.tr_close(handle)

    def _flush(self, handle: Any) -> None:  # noqa: ANN401  # tpm2-pytss carries no types
        with tss_errors("flush an object"):
            self._esapi.flush_context(handle)


class _Primary(NamedTuple):
    handle: Any
    public: bytes


def _relay(descriptor: int) -> RelayTcti:
    try:
        return RelayTcti(descriptor)
    except OSError as error:
        message = f"descriptor {descriptor} is no socket to a TPM: {error.strerror}"
        raise MachineError("tpm.connection", message) from error


def strip_padding(data: bytes) -> bytes:
    """Return the DER value at the start of `data`: manufacturers pad NV indices with 0xff."""
    if len(data) < 4 or data[0] != 0x30 or data[1] not in (0x81, 0x82):  # noqa: PLR2004
        return data
    length_bytes = data[1] & 0x7F
    end = 2 + length_bytes + int.from_bytes(data[2 : 2 + length_bytes], "big")
    return data[:end]


def _selection(pcrs: tuple[int, ...]) -> Any:  # noqa: ANN401  # tpm2-pytss carries no types
    return TPML_PCR_SELECTION.parse("sha256:" + ",".join(map(str, pcrs)))
