"""Who chose the data that a property is about."""

from typing import Literal

from laminator.claims import Claims, Property
from laminator.digest import Digest

Chooser = Literal["provider", "reference"]


def chosen_by(item: Property, claims: Claims, known: frozenset[Digest]) -> Chooser:
    """Return who chose the data of `item`: the provider, unless every part is in `known`.

    "reference" stands for the verifier, whose reference values the data are.

    The data are the inputs that the property is about, without the model; a labels file of its
    own is an input like the others. A property that is about no data input gives the provider
    every choice.
    """
    data = [
        claims.inputs[name].digest
        for name in item.on
        if name in claims.inputs and claims.inputs[name].type != "model"
    ]
    return "reference" if data and set(data) <= known else "provider"
