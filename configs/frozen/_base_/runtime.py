"""Hooks, logging, seeds; the import that registers mmfrozen."""

_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmfrozen'], allow_failed_imports=False)

# misspelt keys and impossible values end in one line, before the build
runner_type = 'mmfrozen.CheckedRunner'

default_hooks = dict(
    runtime_info=dict(type='mmfrozen.BufferedRuntimeInfoHook'),
    checkpoint=dict(type='mmfrozen.SafeCheckpointHook', max_keep_ckpts=2),
    frozen_guard=dict(type='FrozenGuardHook', state='frozen'),
    non_finite=dict(type='mmfrozen.NonFiniteHook', policy='stop'),
    drift=dict(type='mmfrozen.DriftHook', interval=500),
    step_cost=dict(type='mmfrozen.StepCostHook', interval=50),
)
custom_hooks = [dict(type='NumClassCheckHook')]
vis_backends = [dict(type='mmfrozen.SafeLocalVisBackend')]
visualizer = dict(vis_backends=vis_backends)
randomness = dict(seed=0)
