"""Frozen classification backbones for MMDetection.

Importing the package registers its modules with MMDetection; a config does
so with ``custom_imports = dict(imports=['mmfrozen'])``.
"""

from .gc_paused import gc_paused
from .version import __version__ as __version__

# the garbage collector would traverse imported modules for 2 seconds in total
with gc_paused():
    import mmfrozen_ext

    mmfrozen_ext.install()  # usually done already, by mmfrozen.pth
    mmfrozen_ext.check()

    from . import compat

    compat.apply()

    from . import (  # noqa: F401
        datasets,
        evaluation,
        hooks,
        loops,
        models,
        optim,
        runner,
        transforms,
    )
