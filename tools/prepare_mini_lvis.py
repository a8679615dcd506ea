"""The command `mmfrozen mini-lvis`."""

import sys

from mmfrozen_cli.mini_lvis import main

if __name__ == '__main__':
    sys.exit(main())
