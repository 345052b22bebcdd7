"""Where the attester's code starts: one process, one role.

    attester              the measured run (setup and request come from descriptors)
    measurer FD FD        the process that holds the labels of an evaluation
    records FD            the process that reads the records of data sets

The role's module is imported only when it is known: the measured copy has no byte code.
"""

import signal
import sys
from collections.abc import Sequence

from laminator.run.signals import SIGNALS

_USAGE_STATUS = 2


def main(argv: Sequence[str]) -> int:
    """Run the role that `argv` names; return the exit status."""
    match list(argv):
        case ["attester"]:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it can answer them
            from laminator.run.attester import main as attester

            return attester()
        case ["measurer", *arguments]:
            from laminator.run.measurer import main as measurer

            return measurer(arguments)
        case ["records", *arguments]:
            from laminator.run.record_measurer import main as records

            return records(arguments)
        case _:
            sys.stderr.write("laminator: this is started by `laminator run`\n")
            return _USAGE_STATUS


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
