"""The command `mmfrozen cache-advice`."""

import sys

from mmfrozen_cli import run_command

if __name__ == '__main__':
    sys.exit(run_command('cache-advice'))
