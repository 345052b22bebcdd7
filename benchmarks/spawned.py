"""Contestants that are processes: how long they took, and the most memory that they held."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

KIBIBYTE = 1024
MEBIBYTE = 1 << 20
PEAK = """
with open("/proc/self/status") as status:
    print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""
"""Prints the process's peak memory in KiB; getrusage(2) would count its parent's before exec."""


class Spent(NamedTuple):
    """Wall-clock and processor seconds, and peak resident memory in MiB, of one process."""

    seconds: float
    processor: float
    memory: float


def spawn(command: Sequence[str]) -> Spent:
    """Run a command of interpreter, code and arguments to its end; exit where it fails."""
    python, code, *words = command
    start = time.perf_counter()
    process = subprocess.Popen([python, "-c", code + PEAK, *words], stdout=subprocess.PIPE)
    output = b"" if process.stdout is None else process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command}: exit status {process.returncode}")
    peak = int(output.split()[-1]) * KIBIBYTE / MEBIBYTE
    return Spent(seconds, usage.ru_utime + usage.ru_stime, peak)


def take_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Spent]]:
    """Run every command once to warm up, then `rounds` times in turn."""
    spent: dict[str, list[Spent]] = {name: [] for name in commands}
    for command in commands.values():
        spawn(command)
    for number in range(rounds):
        names = list(commands)
        for name in names if number % 2 == 0 else reversed(names):
            spent[name].append(spawn(commands[name]))
    return spent


def fill(path: str, size: int, seed: int = 0) -> None:
    """Write `size` bytes that repeat nowhere near each other to a new file."""
    block = bytearray(os.urandom(MEBIBYTE))
    with open(path, "xb") as file:  # noqa: PTH123 - as the callers have it
        for at in range(0, size, MEBIBYTE):
            block[:16] = (seed << 64 | at).to_bytes(16, "big")
            file.write(block[: min(MEBIBYTE, size - at)])
