"""Frozen classification backbones for MMDetection.

Importing the package registers its modules with MMDetection; a config does
so with ``custom_imports = dict(imports=['mmfrozen'])``.
"""

from .collector import paused
from .late import imported_late
from .version import __version__ as __version__

with (
    paused(),  # the collector would look at every module for a second
    # of what lvis and mmdet import, nothing but this is used, and seldom
    imported_late('matplotlib.pyplot'),
    imported_late('scipy.optimize', ('linear_sum_assignment',)),
):
    import mmfrozen_ext

    mmfrozen_ext.install()  # pip's mmfrozen.pth has done it, as a rule
    mmfrozen_ext.check()

    from . import compat

    compat.apply()

    from . import (  # noqa: F401
        datasets,
        evaluation,
        hooks,
        models,
        optim,
        transforms,
    )
