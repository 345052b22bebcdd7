"""Measurers: the code that computes properties."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from laminator.claims import Property
from laminator.properties.performance import Choices, Setting, accuracy

Measurer = Callable[[Choices, Setting], Property]

MEASURERS: Mapping[str, Measurer] = MappingProxyType({"accuracy": accuracy})
