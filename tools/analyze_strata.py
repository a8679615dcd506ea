"""The command `mmfrozen strata`."""

import sys

from mmfrozen_cli.strata import main

if __name__ == '__main__':
    sys.exit(main())
