"""TPM and trusted execution environments: what is there, and whether this user may use it."""

from laminator.doctor.finding import MISSING, PRESENT, WARNING, Finding, Host
from laminator.doctor.raw_tpm import DEVICE, RawTpm, TpmState, open_tpm
from laminator.errors import MachineError
from laminator.evidence.tpm_structures import RUN_COUNTER_INDEX

_BARE_DEVICE = "/dev/tpm0"
_VERSION = "/sys/class/tpm/tpm0/tpm_version_major"
_TPM_2 = "2"

_TEES = {
    "sgx": ("Intel SGX", ("/dev/sgx_enclave", "/dev/sgx/enclave")),
    "sgx-provision": ("Intel SGX provisioning", ("/dev/sgx_provision", "/dev/sgx/provision")),
    "gramine": ("Gramine attestation", ("/dev/attestation/user_report_data",)),
    "tdx": ("Intel TDX guest", ("/dev/tdx_guest", "/dev/tdx-guest")),
    "snp": ("AMD SEV-SNP guest", ("/dev/sev-guest",)),
    "nitro": ("AWS Nitro enclave", ("/dev/nsm",)),
    "nitro-parent": ("host of AWS Nitro enclaves", ("/dev/nitro_enclaves",)),
}
_TSM = "/sys/kernel/config/tsm/report"

# What an empty secret lets anybody do who reaches the TPM, and the command that sets one.
_EMPTY = {
    "owner": (
        "anybody who reaches the TPM can remove the run counter",
        "tpm2_changeauth -c owner NEW-SECRET  (enroll request then takes --owner-auth-file)",
    ),
    "lockout": (
        "anybody who reaches the TPM can clear it, and with it the attestation key",
        "tpm2_changeauth -c lockout NEW-SECRET",
    ),
    "endorsement": (
        "anybody who reaches the TPM can use the key; `laminator run` knows no other secret",
        "",
    ),
    "platform": (
        "the firmware left the platform hierarchy open: the TPM can be reset from the system",
        "update the firmware, or ask its maker",
    ),
}


def tpm_findings(host: Host, tcti: str | None) -> tuple[Finding, ...]:
    """Look at the TPM of `tcti`, or at the machine's own."""
    if tcti is None:
        device = _device_finding(host)
        if device.state != PRESENT:
            return (device,)
        return (device, *_inside(f"device:{host.path(DEVICE)}"))
    return _inside(tcti, named=True)


def tee_findings(host: Host) -> tuple[Finding, ...]:
    """Look for trusted execution environments and the kernel's common interface to them."""
    found = [_tee(host, name, *known) for name, known in _TEES.items()]
    if not host.exists(_TSM):
        return (*found, Finding("tee", "tsm", MISSING, f"no {_TSM} (Linux 6.7 in a guest has it)"))
    if host.may_use(_TSM):
        return (*found, Finding("tee", "tsm", PRESENT, f"{_TSM}: reports of TDX, SNP and others"))
    detail = f"{_TSM} is there, but this user may not use it"
    return (*found, Finding("tee", "tsm", WARNING, detail, "run as root, or have root grant it"))


def _device_finding(host: Host) -> Finding:
    if not host.exists(DEVICE):
        if host.exists(_BARE_DEVICE):
            version = host.text(_VERSION)
            if version is not None and version != _TPM_2:
                detail = f"the TPM is of version {version}; only 2.0 can attest"
                return _no_device(detail, "")
            return _no_device(f"{_BARE_DEVICE} without {DEVICE}", "modprobe tpm")
        advice = "enable the TPM (fTPM, PTT) in the firmware, or use --simulated"
        return _no_device(f"no {DEVICE}", advice)
    if not host.may_use(DEVICE):
        detail = f"{DEVICE} is there, but this user may not open it"
        advice = "sudo usermod -aG tss $USER, then log in again"
        return Finding("tpm", "device", WARNING, detail, advice, ("tpm",))
    return Finding("tpm", "device", PRESENT, DEVICE)


def _no_device(detail: str, advice: str) -> Finding:
    return Finding("tpm", "device", MISSING, detail, advice, ("tpm",))


def _inside(tcti: str, *, named: bool = False) -> tuple[Finding, ...]:
    try:
        with open_tpm(tcti) as tpm:
            state, counter = tpm.state(), _counter(tpm)
    except MachineError as error:
        return (Finding("tpm", "device", WARNING, error.message, "check the TCTI", ("tpm",)),)
    reached = Finding("tpm", "device", PRESENT, tcti)
    maker = Finding("tpm", "manufacturer", PRESENT, state.manufacturer or "does not say")
    return (*((reached,) if named else ()), maker, *_auths(state), counter)


def _auths(state: TpmState) -> tuple[Finding, ...]:
    findings = [
        Finding("tpm", f"{name}-auth", WARNING, f"empty: {_EMPTY[name][0]}", _EMPTY[name][1])
        for name in state.empty_auths
    ]
    if not findings:
        findings.append(Finding("tpm", "auths", PRESENT, "every hierarchy has a secret"))
    if state.in_lockout:
        detail = "the TPM is locked after wrong secrets"
        findings.append(Finding("tpm", "lockout", WARNING, detail, "tpm2_dictionarylockout -c"))
    return tuple(findings)


def _counter(tpm: RawTpm) -> Finding:
    if tpm.has_handle(RUN_COUNTER_INDEX):
        return Finding("tpm", "run-counter", PRESENT, f"NV index {RUN_COUNTER_INDEX:#x}")
    detail = "no run counter yet; laminator enroll request defines it"
    return Finding("tpm", "run-counter", MISSING, detail)


def _tee(host: Host, name: str, title: str, paths: tuple[str, ...]) -> Finding:
    for path in paths:
        if not host.exists(path):
            continue
        if host.may_use(path):
            return Finding("tee", name, PRESENT, f"{title}: {path}")
        detail = f"{title}: {path} is there, but this user may not open it"
        return Finding("tee", name, WARNING, detail, f"look at the group of {path}: ls -l {path}")
    return Finding("tee", name, MISSING, f"{title}: no {paths[0]}")
