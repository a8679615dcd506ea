"""The command `mmfrozen reproduce`."""

import sys

from mmfrozen_cli.reproduce import main

if __name__ == '__main__':
    sys.exit(main())
