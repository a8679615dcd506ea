"""The command `mmfrozen describe`."""

import sys

from mmfrozen_cli.describe import main

if __name__ == '__main__':
    sys.exit(main())
