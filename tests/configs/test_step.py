"""One training step of every config, at its real width, on a tiny batch."""

import copy
import gc

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.registry import DefaultScope

from .pack import CONFIGS, PACK, flat, load, slots, state

#: Small and quick; every detector, neck, kind of head and state is among
#: them.
FAST = [
    'frozen/mask_rcnn_lite0_mini-lvis',
    'finetuned/mask_rcnn_lite0_bifpn_mini-lvis',
    'frozen/mask_rcnn_lite0_adapters_mini-lvis',
    'scratch/mask_rcnn_lite0_adapters_mini-lvis',
    'frozen/faster_rcnn_r50_fpn_2fc_12e_coco',
    'finetuned/retinanet_r50_fpn_12e_coco',
    'frozen/mask_rcnn_r50_12e_coco',
    'frozen/cascade_rcnn_rs101_fpn_coco',
    'frozen/retinanet_rs101_coco',
]


#: Models whose step was taken, for schedules and data change nothing in it.
TAKEN = set()


def signature(path):
    """What a model is built of, up to the file that fills its backbone."""
    leaves = flat(load(path).model.to_dict())
    return repr(
        sorted(
            (k, v) for k, v in leaves.items() if not k.endswith('.checkpoint')
        )
    )


def shrink(cfg):
    """Few proposals: what is built stays as it is."""
    if 'rpn_head' not in cfg:
        return cfg
    cfg.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
    rcnn = cfg.train_cfg.rcnn
    for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
        stage.sampler.update(num=8, pos_fraction=0.5)
    return cfg


def build_model(path):
    """Build a detector as a run does, but for the classifier's file."""
    cfg = shrink(copy.deepcopy(load(path).model))
    if slots(path)['loss'] == 'federated':  # the file is not here
        cfg.roi_head.bbox_head.loss_cls.frequencies = [1] * 1203
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg).train()
        for name, part in model.named_children():
            if name != 'backbone' and hasattr(part, 'init_weights'):
                part.init_weights()
    return model


def make_batch(model, size):
    """Two images with five objects, the same each time."""
    batch = demo_mm_inputs(
        2,
        [[3, size, size]] * 2,
        num_items=[3, 2],
        num_classes=2,
        with_mask=True,
    )
    return model.data_preprocessor(batch, training=True)


def take_step(path, size=64):
    model = build_model(path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        losses = model(**make_batch(model, size), mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
    return model, total


def check_step(path):
    model, total = take_step(path)
    assert torch.isfinite(total), path
    trained = 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        trained += 1
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert trained
    frozen = state(path) == 'frozen' and not slots(path)['adapters']
    trains = any(p.requires_grad for p in model.backbone.parameters())
    assert trains != frozen
    del model, total
    gc.collect()


@pytest.mark.parametrize('name', FAST)
def test_step_gives_every_trainable_parameter_a_gradient(name):
    check_step(PACK / f'{name}.py')


@pytest.mark.configs
@pytest.mark.parametrize(
    'path',
    [p for p in CONFIGS if f'{p.parent.name}/{p.stem}' not in FAST],
    ids=lambda p: f'{p.parent.name}/{p.stem}',
)
def test_step_of_every_config(path):
    """Minutes, and up to 6 GB, one at a time."""
    if signature(path) in TAKEN:
        return
    TAKEN.add(signature(path))
    check_step(path)
