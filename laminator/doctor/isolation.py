"""Whether this machine can keep a workload apart from its attester, by trying it."""

from laminator.doctor.finding import MISSING, PRESENT, WARNING, Finding, Host
from laminator.run.bubblewrap import bubblewrap
from laminator.run.sandbox import NAMESPACES, UID, Sandbox, probe
from laminator.run.seccomp import is_available

_SYSCTL = "/proc/sys/"
_WITHOUT = "properties of a run without isolation are only `reported`"


def isolation_findings(host: Host, sandbox: Sandbox | None = None) -> tuple[Finding, ...]:
    """Try the separations (`sandbox` stands for the result in tests); say what the kernel forbids.

    Raises nothing: a separation that does not work is a finding.
    """
    tried = probe(bubblewrap()) if sandbox is None else sandbox
    return (_separation(tried), _filter(), *kernel_findings(host))


def kernel_findings(host: Host) -> tuple[Finding, ...]:
    """Look at the settings by which kernels keep user namespaces from ordinary users."""
    findings = []
    if _setting(host, "kernel.apparmor_restrict_unprivileged_userns") == "1":
        findings.append(_apparmor(host))
    if _setting(host, "kernel.unprivileged_userns_clone") == "0":
        detail = "kernel.unprivileged_userns_clone = 0: only root may make user namespaces"
        advice = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
        findings.append(Finding("isolation", "userns-clone", WARNING, detail, advice))
    if _setting(host, "user.max_user_namespaces") == "0":
        detail = "user.max_user_namespaces = 0: nobody may make user namespaces"
        advice = "sudo sysctl -w user.max_user_namespaces=15000"
        findings.append(Finding("isolation", "max-userns", WARNING, detail, advice))
    if not findings:
        detail = "the kernel does not restrict unprivileged user namespaces"
        findings.append(Finding("isolation", "kernel", PRESENT, detail))
    return tuple(findings)


def _apparmor(host: Host) -> Finding:
    """Ubuntu's way: programs need an AppArmor profile that grants `userns`."""
    detail = (
        "kernel.apparmor_restrict_unprivileged_userns = 1: a program needs an AppArmor profile "
        "to use user namespaces"
    )
    profiles = host.path("/etc/apparmor.d")
    if any((profiles / name).exists() for name in ("bwrap", "bwrap-userns-restrict")):
        return Finding("isolation", "apparmor", PRESENT, f"{detail}; there is one for bwrap")
    advice = (
        "give bwrap one: echo 'abi <abi/4.0>, profile bwrap /usr/bin/bwrap flags=(unconfined) "
        "{ userns, }' | sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r "
        "/etc/apparmor.d/bwrap"
    )
    return Finding("isolation", "apparmor", WARNING, detail, advice)


def _separation(sandbox: Sandbox) -> Finding:
    if sandbox.separation == NAMESPACES:
        detail = "bubblewrap separates workloads by user, mount, pid, ipc, uts and net namespaces"
        return Finding("isolation", "separation", PRESENT, detail)
    advice = "sudo apt install bubblewrap, and see the kernel's settings below"
    if sandbox.separation == UID:
        detail = f"only another user id separates workloads ({sandbox.reason})"
        return Finding("isolation", "separation", WARNING, detail, advice)
    detail = f"nothing separates workloads ({sandbox.reason}); {_WITHOUT}"
    return Finding("isolation", "separation", MISSING, detail, advice)


def _filter() -> Finding:
    if is_available():
        detail = "the kernel filters workloads' system calls (seccomp)"
        return Finding("isolation", "seccomp", PRESENT, detail)
    detail = "no filter of system calls: the kernel has none, or the processor is not x86-64"
    return Finding("isolation", "seccomp", WARNING, f"{detail}; cards say so")


def _setting(host: Host, name: str) -> str | None:
    return host.text(_SYSCTL + name.replace(".", "/"))
