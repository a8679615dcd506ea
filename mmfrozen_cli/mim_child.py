"""Run mim so that it waits for its training when both are terminated.

mim itself ends at once on a signal, forwards no signal, and has one exit
status for all failures. ``mmfrozen pair`` therefore starts this module.
"""

import signal
import subprocess
import sys


def main() -> None:
    """Run mim and exit with the status of its training process."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)  # its child handles them
    from mim.cli import cli

    try:
        cli()
    except subprocess.CalledProcessError as error:  # mim has printed it
        status = error.returncode
        sys.exit(status if status > 0 else 128 - status)


if __name__ == '__main__':
    main()
