"""The command `mmfrozen lite0-weights`."""

import sys

from mmfrozen_cli.lite0_weights import main

if __name__ == '__main__':
    sys.exit(main())
