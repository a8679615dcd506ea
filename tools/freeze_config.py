"""The command `mmfrozen freeze`."""

import sys

from mmfrozen_cli.freeze import main

if __name__ == '__main__':
    sys.exit(main())
