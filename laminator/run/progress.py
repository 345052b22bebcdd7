"""What a run tells somebody who watches a terminal; nothing is written anywhere else."""

import contextlib
import sys
from collections.abc import Iterator

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def tell(text: str) -> None:
    """Write one line to stderr if it is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"laminator: {text}\n")
        sys.stderr.flush()


def size_text(size: int) -> str:
    """Return `size` bytes in a unit that people read: ``1.5 GiB``."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - binary units
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Show that something is under way, on a terminal with rich; for the driver's side only."""
    if not sys.stderr.isatty():
        yield
        return
    try:
        from rich.console import Console
    except ImportError:
        yield
        return
    with Console(stderr=True).status(text):
        yield
