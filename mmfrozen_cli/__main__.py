"""Run the command line as `python -m mmfrozen_cli`."""

import sys

from . import main

sys.exit(main())
