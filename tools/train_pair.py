"""The command `mmfrozen pair`."""

import sys

from mmfrozen_cli.pair import main

if __name__ == '__main__':
    sys.exit(main())
