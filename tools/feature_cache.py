"""The command `mmfrozen cache`."""

import sys

from mmfrozen_cli.cache import main

if __name__ == '__main__':
    sys.exit(main())
