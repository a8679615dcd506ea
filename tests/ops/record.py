"""Store what compiled mmcv 2.1.0 computes, for comparison: each operator,
and the losses of a training step of each detector family of the pack.

make setup MMCV=compiled VENV=.venv-compiled
.venv-compiled/bin/python -m tests.ops.record
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmcv import _ext
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm

import mmfrozen_ext
from tests.tiny import ROOT

from .cases import CASES

FILE = Path(__file__).with_name('recorded.npz')
STEPS = Path(__file__).with_name('recorded_steps.json')
#: Small ones, one of each kind of head.
FAMILIES = (
    'mask_rcnn_r50_12e_coco',
    'mask_rcnn_r50_fpn_rpn2-4conv1fc_coco',
    'faster_rcnn_r50_fpn_2fc_12e_coco',
    'retinanet_r50_fpn_12e_coco',
    'cascade_rcnn_rs101_fpn_coco',
)


def take_steps(names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Losses, and the norm of all gradients, with seeded weights and data."""
    found = {}
    for name in names:
        cfg = Config.fromfile(ROOT / f'configs/frozen/{name}.py').model
        cfg.backbone.get('backbone', cfg.backbone).init_cfg = None
        cfg.data_preprocessor.pop('batch_augments', None)
        with DefaultScope.overwrite_default_scope('mmdet'):
            torch.manual_seed(0)
            model = MODELS.build(cfg).train()
        # the same on every version of torch and every processor
        draw = np.random.default_rng(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    fan_in = parameter[0].numel()
                    numbers = draw.standard_normal(parameter.shape)
                    parameter.copy_(torch.from_numpy(numbers / fan_in**0.5))
        for module in model.modules():
            # statistics of two small images would amplify last digits
            if isinstance(module, _BatchNorm):
                module.eval()
            # batched heads draw other random numbers than the recorded ones
            if hasattr(module, 'fallback_reason'):
                module.fallback_reason = 'the record is of MMDetection'
        torch.manual_seed(1)
        data = demo_mm_inputs(
            2, [(3, 128, 128)] * 2, [4, 6], num_classes=2, with_mask=True,
            use_box_type=True,
        )  # fmt: skip
        data = model.data_preprocessor(data, True)
        loss, scalars = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        norms = [
            p.grad.norm() for p in model.parameters() if p.grad is not None
        ]
        found[name] = {k: float(v) for k, v in scalars.items()}
        found[name]['gradient norm'] = float(torch.stack(norms).norm())
    return found


def main() -> int:
    """Run as a program."""
    if not mmfrozen_ext.is_compiled(_ext) or mmcv.__version__ != '2.1.0':
        print(
            'error: mmcv 2.1.0 must have compiled operators, got '
            f'{mmcv.__version__} with {_ext.__file__}. Run `make setup '
            'MMCV=compiled VENV=.venv-compiled`.',
            file=sys.stderr,
        )
        return 2
    torch.set_num_threads(1)
    arrays = {
        f'{case}/{name}': tensor.numpy()
        for case, compute in CASES.items()
        for name, tensor in compute().items()
    }
    versions = f'torch {torch.__version__}, mmcv {mmcv.__version__}'
    np.savez_compressed(FILE, versions=np.array(versions), **arrays)
    STEPS.write_text(json.dumps(take_steps(FAMILIES), indent=1) + '\n')
    size = FILE.stat().st_size // 1024
    print(f'{len(CASES)} cases, {len(arrays)} arrays, {size} KiB: {versions}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
