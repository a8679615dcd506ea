"""The command `mmfrozen cache-advice`."""

import sys

from mmfrozen_cli.cache_advice import main

if __name__ == '__main__':
    sys.exit(main())
