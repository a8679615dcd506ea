"""Count the operators that a frozen training step dispatches, by component.

    python benchmarks/launches.py mask_rcnn_r101_fpn_lvis --batches 2 8 16

On a GPU each operator launches at least one kernel. They are counted on a CPU,
without views, empty tensors and scalars, for MMDetection's step and for the
batched step, at several batch sizes: the count of the batched step must not
grow. NMS runs as on a GPU. With CUDAGraphHook the forward pass of backbone,
neck and RPN is one launch, and so is their backward pass.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from typing import Any

import torch
from mmdet.utils import register_all_modules
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_step import Step, build, make_data

from mmfrozen.models.batched import rpn_head
from mmfrozen.models.batched.suppress import suppress_groups

GRAPHED = 'all, with CUDAGraphHook'
VIEWS = set(
    [
        'view',
        'reshape',
        'permute',
        'transpose',
        't',
        'expand',
        'slice',
        'select',
        'unsqueeze',
        'squeeze',
        'detach',
        'alias',
        '_unsafe_view',
        'as_strided',
        'split',
        'unbind',
        'chunk',
        'empty',
        'empty_like',
        'new_empty',
        'narrow',
        'split_with_sizes',
        'lift_fresh',
        'scalar_tensor',
        '_record_function_enter_new',
        '_record_function_exit',
        'empty_strided',
        'new_empty_strided',
        'unsafe_split',
        '_local_scalar_dense',
    ]
)


class Count(TorchDispatchMode):
    """Counter of operators, by the innermost running component."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ['other']
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func._schema.name.partition('::')[2] not in VIEWS:
            self.found[self.stack[-1]] += 1
        return func(*args, **(kwargs or {}))

    def within(self, owner: Any, method: str, name: str) -> None:
        """Count the operators of a method under a component's name."""
        call = getattr(owner, method, None)
        if call is None:
            return

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.stack.append(name)
            try:
                return call(*args, **kwargs)
            finally:
                self.stack.pop()

        setattr(owner, method, counted)


def suppress_as_on_gpus(
    boxes: Tensor, scores: Tensor, threshold: float, **_: Any
) -> Tensor:
    """Replace the CPU's NMS by that of GPUs."""
    groups = boxes.flatten(0, 1)
    return suppress_groups(groups, threshold).view_as(scores)


def count(name: str, batch: int, size: int, *, fast: bool) -> Counter[str]:
    """Return the number of operators of a step by component, and of all with
    CUDAGraphHook."""
    model = build(name, 'frozen', fast=fast, device='cpu', narrow=True)
    head = model.roi_head.bbox_head
    head = head[0] if isinstance(head, torch.nn.ModuleList) else head
    data = make_data(batch, size, head.num_classes, crops=fast)
    step = Step(model, data, 'cpu', False, late=False)
    step()
    counter = Count()
    counter.within(model.data_preprocessor, 'forward', 'preprocessing')
    counter.within(model.backbone, 'forward', 'backbone')
    counter.within(model.neck, 'forward', 'neck')
    for method in ('forward', 'loss_by_feat', 'batched_loss'):
        label = 'RPN' if method == 'forward' else 'RPN targets and losses'
        counter.within(model.rpn_head, method, label)
    for method in ('predict_by_feat', 'batched_predict'):
        counter.within(model.rpn_head, method, 'proposals')
    for method in ('loss', 'batched_loss'):
        counter.within(model.roi_head, method, 'RoI heads')
    counter.within(step.optimizer, 'step', 'optimizer')
    backward = torch.Tensor.backward
    counter.within(torch.Tensor, 'backward', 'backward')
    try:
        with counter:
            step()
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
    if fast:
        outputs = tree_leaves(
            model.run_static(torch.rand(batch, 3, size, size))
        )
        trained = [p for p in model.parameters() if p.requires_grad]
        loss = [torch.ones_like(x) for x in outputs]
        static = Count()
        with static:
            torch.autograd.grad(outputs, trained, loss, allow_unused=True)
        captured = {'backbone', 'neck', 'RPN'}
        left = sum(n for k, n in counter.found.items() if k not in captured)
        counter.found[GRAPHED] = left - static.found['other'] + 2
    return counter.found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', nargs='?', default='mask_rcnn_r101_fpn_lvis')
    parser.add_argument('--batches', type=int, nargs='+', default=[2, 8])
    parser.add_argument('--size', type=int, default=256)
    args = parser.parse_args()
    register_all_modules()
    rpn_head.suppress = suppress_as_on_gpus
    warnings.filterwarnings('ignore')
    columns = [(fast, b) for fast in (False, True) for b in args.batches]
    found = [
        count(args.config, b, args.size, fast=fast) for fast, b in columns
    ]
    heads = [f'{"batched" if f else "stock"} {b}' for f, b in columns]
    print(f'{args.config:24}' + ''.join(f'{h:>12}' for h in heads))
    for name in (n for n in max(found, key=len) if n != GRAPHED):
        print(f'{name:24}' + ''.join(f'{c[name]:12}' for c in found))
    totals = [sum(c.values()) - c[GRAPHED] for c in found]
    print(f'{"all":24}' + ''.join(f'{t:12}' for t in totals))
    print(f'{GRAPHED:24}' + ''.join(f'{c[GRAPHED] or "":>12}' for c in found))


if __name__ == '__main__':
    main()
