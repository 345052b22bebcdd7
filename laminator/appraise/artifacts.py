"""Files and folders that the verifier holds, against what the card says of them."""

from collections.abc import Collection, Iterator, Mapping

from laminator.appraise.check import Check, failed, not_applicable, passed
from laminator.claims import Claims
from laminator.digest import Digest


def measure_artifact(path: str) -> Digest:
    """Return the digest of the file or folder at `path`, as an attester measures it.

    Raises UsageError for what cannot be measured, MachineError when reading fails.
    """
    from laminator.measure.files import measure_path

    return measure_path(path).digest


def check_artifacts(
    claims: Claims, artifacts: Mapping[str, Digest], elsewhere: Collection[str]
) -> Iterator[Check]:
    """`artifact.<name>`: the verifier's artifact is the card's input or output of that name.

    A name that only another of the given cards has (`elsewhere`) does not apply to this one.
    """
    for name, digest in artifacts.items():
        id_ = f"artifact.{name}"
        found = [group[name].digest for group in (claims.inputs, claims.outputs) if name in group]
        if found and all(item == digest for item in found):
            yield passed(id_, f"{digest} is the card's {name}")
        elif found:
            listed = ", ".join(map(str, found))
            yield failed(id_, f"the artifact given is {digest}, the card's {name} is {listed}")
        elif name in elsewhere:
            yield not_applicable(id_, "the name belongs to another of the cards given")
        else:
            names = ", ".join(sorted({*claims.inputs, *claims.outputs})) or "none"
            yield failed(id_, f"the card has no input or output of that name; it has {names}")
