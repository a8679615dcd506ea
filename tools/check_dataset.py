"""The command `mmfrozen check`."""

import sys

from mmfrozen_cli.check import main

if __name__ == '__main__':
    sys.exit(main())
