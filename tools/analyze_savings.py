"""The command `mmfrozen savings`."""

import sys

from mmfrozen_cli.savings import main

if __name__ == '__main__':
    sys.exit(main())
