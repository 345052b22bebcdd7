"""Reference values from a card: the code that one run loaded, trusted because it ran once."""

from laminator.card import parse_card
from laminator.claims import CODE_FILES
from laminator.digest import sha256
from laminator.eventlog import Record
from laminator.reference import ReferencePackage
from laminator.references.packing import pack


def read_card(data: bytes) -> tuple[ReferencePackage, ...]:
    """Return the files of code of a card that nobody has verified, grouped by their first folder.

    Without the bootstrap: it is the attester's own, which a launch's reference value covers. A name
    that was loaded with other bytes later stands in one more package of the same name.
    Raises MalformedError.
    """
    card = parse_card(data)
    workload = card.claims.workload
    python = workload.interpreter
    own = [
        Record("entry", f"script/{workload.entry.label}", workload.entry.digest.value),
        Record("interpreter", f"interpreter/{python.label}", python.digest.value),
    ]
    loaded = [record for record in card.log if record.event in CODE_FILES[1:]]
    groups: dict[str, list[dict[str, bytes]]] = {}
    for record in (*own, *loaded):
        layers = groups.setdefault(_group(record.name), [])
        if any(layer.get(record.name) == record.digest for layer in layers):
            continue
        free = next((layer for layer in layers if record.name not in layer), None)
        if free is None:
            layers.append({record.name: record.digest})
        else:
            free[record.name] = record.digest
    origin = sha256(data)
    return tuple(
        pack(name, "", "card", layer, origin) for name, layers in groups.items() for layer in layers
    )


def _group(name: str) -> str:
    label, _, path = name.partition("/")
    if label != "site":
        return label
    return path.partition("/")[0].partition(".")[0] or label
