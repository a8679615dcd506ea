"""mim, which waits for its training when both are asked to end.

mim itself dies of a signal at once, hands none on, and has one status for all
failures. ``mmfrozen pair`` starts it by this module.
"""

import signal
import subprocess
import sys


def main() -> None:
    """Run mim; exit with the status of what it runs."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)  # what it starts has its own
    from mim.cli import cli

    try:
        cli()
    except subprocess.CalledProcessError as error:  # it has said why
        status = error.returncode
        sys.exit(status if status > 0 else 128 - status)


if __name__ == '__main__':
    main()
