"""The command `mmfrozen browse`."""

import sys

from mmfrozen_cli.browse import main

if __name__ == '__main__':
    sys.exit(main())
