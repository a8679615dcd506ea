"""The command `mmfrozen verify`."""

import sys

from mmfrozen_cli.verify import main

if __name__ == '__main__':
    sys.exit(main())
