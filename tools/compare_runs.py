"""The command `mmfrozen compare`."""

import sys

from mmfrozen_cli.compare import main

if __name__ == '__main__':
    sys.exit(main())
