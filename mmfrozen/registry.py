"""Registries of this package, for ``type='mmfrozen.X'`` in configs.

MMEngine imports this module when a config uses that scope. Plain names work
too: distinctive names are also registered with MMDetection, all others in
MMEngine's root registries, which are searched last, so that classes of other
packages take precedence. An existing name is never overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmdet import registry as mmdet
from mmengine.registry import Registry

from .options import check_options

#: Prefixes of the names that are also registered with MMDetection.
DISTINCT = (
    'AnySize',
    'Batched',
    'Checked',
    'Float32',
    'Frozen',
    'NormAct',
    'Stratified',
    'Trainable',
)


class _Registry(Registry):
    """A registry of scope ``mmfrozen``, beside the one of MMDetection."""

    def __init__(self, beside: Registry) -> None:
        super().__init__(beside.name, parent=beside.root, scope='mmfrozen')
        self._beside = beside

    def register_module(self, *args: Any, **kwargs: Any) -> Callable:
        """Return a decorator that registers a class, here and under its
        plain name, and makes it refuse misspelt options."""
        register = super().register_module(*args, **kwargs)

        def decorate(cls: Any) -> Any:
            cls = check_options(cls)
            name = cls.__name__
            is_distinct = name.startswith(DISTINCT)
            plain = self._beside if is_distinct else self.root
            if name not in plain.module_dict:
                plain.register_module(module=cls)
            return register(cls)

        return decorate


DATA_SAMPLERS = _Registry(mmdet.DATA_SAMPLERS)
DATASETS = _Registry(mmdet.DATASETS)
EVALUATOR = _Registry(mmdet.EVALUATOR)
HOOKS = _Registry(mmdet.HOOKS)
LOOPS = _Registry(mmdet.LOOPS)
METRICS = _Registry(mmdet.METRICS)
MODELS = _Registry(mmdet.MODELS)
OPTIM_WRAPPER_CONSTRUCTORS = _Registry(mmdet.OPTIM_WRAPPER_CONSTRUCTORS)
RUNNERS = _Registry(mmdet.RUNNERS)
TASK_UTILS = _Registry(mmdet.TASK_UTILS)
TRANSFORMS = _Registry(mmdet.TRANSFORMS)
VISBACKENDS = _Registry(mmdet.VISBACKENDS)
