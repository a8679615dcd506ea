"""Frozen classification backbones for MMDetection.

Importing the package registers its modules with MMDetection; a config does
so with ``custom_imports = dict(imports=['mmfrozen'])``.
"""

from . import compat
from .version import __version__ as __version__

compat.apply()

from . import datasets, hooks, models, optim  # noqa: E402, F401
