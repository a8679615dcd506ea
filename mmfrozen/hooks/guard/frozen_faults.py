"""Find the ways in which a backbone is not frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mmengine.runner import Runner
from torch import nn

from ...freezing import find_faults
from ...freezing.drift import STATISTIC
from ..runner_access import find_backbone, find_model, optimizer_groups

CONSTRUCTOR = 'TrainableOptimWrapperConstructor'
#: Advice by a word in the fault; the first word found gives the cause.
REMEDIES = {
    'replaced': 'Convert norms and add adapters before it is frozen, or not '
    'at all.',
    'require grad': 'Remove what unfreezes it after construction: a train() '
    'override, an unfreezing hook.',
    'optimizer': f"Set optim_wrapper.constructor='{CONSTRUCTOR}', and freeze "
    'at construction, not in a hook.',
    'running statistics': "Set norm_eval=True, or wrap it in type='"
    "FrozenBackbone'.",
    'stochastic depth': "Wrap it in type='FrozenBackbone'.",
    'memory': 'Give the head a copy (clone()).',
    'buckets': 'Freeze at construction: find_unused_parameters and '
    'static_graph only hide it.',
}


def find_run_faults(
    runner: Runner, modules: Mapping[str, nn.Module]
) -> list[str]:
    """Return the ways in which the backbone of a run is not frozen.

    Args:
        runner: The runner, with its model in training mode.
        modules: Modules of the backbone at construction, by name.

    Returns:
        One phrase per fault.
    """
    backbone = find_backbone(runner)
    faults = find_faults(backbone, optimizer_groups(runner.optim_wrapper))
    now = dict(backbone.named_modules())
    replaced = [
        n for n in {**modules, **now} if modules.get(n) is not now.get(n)
    ]
    if replaced:
        old, new = (type(x.get(replaced[0])).__name__ for x in (modules, now))
        faults.append(
            f'{len(replaced)} modules were replaced since construction, the '
            f'first is {replaced[0]} ({new} in place of {old})'
        )
    faults += _find_shared(find_model(runner), backbone)
    return faults + _find_wrapped(runner)


def _find_shared(model: nn.Module, backbone: nn.Module) -> list[str]:
    own = {
        tensor.untyped_storage().data_ptr(): name
        for tensors in (backbone.named_parameters(), backbone.named_buffers())
        for name, tensor in tensors
        if tensor.numel()
    }
    frozen = {id(p) for p in backbone.parameters()}
    return [
        f'{name}, which trains, shares the memory of {own[place]}'
        for name, tensor in model.named_parameters()
        if tensor.requires_grad
        and id(tensor) not in frozen
        and (place := tensor.untyped_storage().data_ptr()) in own
    ]


def _find_wrapped(runner: Runner) -> list[str]:
    """Return a fault if parameters were frozen after the wrapper was built.

    The distributed wrapper then waits for their gradients in every step.
    """
    if not hasattr(runner.model, '_get_ddp_logging_data'):
        return []
    held = runner.model._get_ddp_logging_data()['num_parameter_tensors']
    trained = sum(p.requires_grad for p in runner.model.parameters())
    if held <= trained:
        return []
    return [
        f'{held - trained} frozen parameters are in the buckets of the '
        'distributed wrapper'
    ]


def remedy(faults: Iterable[str]) -> str:
    """Return the advice for the first of the faults."""
    text = ' '.join(faults)
    found = [advice for word, advice in REMEDIES.items() if word in text]
    return found[0] if found else ''


def explain_changes(names: list[str]) -> str:
    """Return a sentence on the likely cause of changed tensors."""
    if all(STATISTIC.search(name) for name in names):
        return (
            'Only running statistics moved: find what ran it in training '
            'mode (PreciseBN, a calibration hook).'
        )
    return (
        'Find what writes to it (a hook, EMA, an optimizer of its own, a '
        'head that shares its memory).'
    )
