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
    try:
        import mmcv.ops  # noqa: F401
    except ImportError as error:  # pip cannot compile it by itself
        raise ImportError(
            'mmfrozen must find mmcv with its compiled operators, got '
            f'{error}. Run `make setup`, or `mim install mmcv==2.1.0`.'
        ) from error

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
