"""The command `mmfrozen experiments`."""

import sys

from mmfrozen_cli.experiments import main

if __name__ == '__main__':
    sys.exit(main())
