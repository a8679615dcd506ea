"""A small detector, small data and small weights for runs that are real."""

import itertools
from pathlib import Path

import torch
import torchvision
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).parents[1]
SIZE = (64, 64)
NUMBERS = itertools.count()


def resnet18_weights(folder):
    """Random weights in the layout of torchvision's files."""
    path = Path(folder, 'resnet18.pth')
    torch.manual_seed(7)
    state = torchvision.models.resnet18(weights=None).state_dict()
    # an untrained norm would be an identity whose loading shows nothing
    for tensor in state.values():
        if tensor.ndim == 1 and tensor.dtype == torch.float32:
            tensor.uniform_(0.5, 1.5)
    state['conv1.weight'][0, 0, 0, 0] = -0.0  # which averaging makes 0.0
    torch.save(state, path)
    return path


def tiny_config(work_dir, data_root, checkpoint, state='frozen'):
    """The main experiment, shrunk: ResNet-18, 16 channels, 64 pixels."""
    cfg = Config.fromfile(ROOT / f'configs/{state}/mask_rcnn_r101_lvis.py')
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            log_level='WARNING',
            model=dict(
                backbone=dict(depth=18),
                neck=dict(
                    in_channels=[64, 128, 256, 512],
                    out_channels=16,
                    stack_times=1,
                ),
                rpn_head=dict(in_channels=16, feat_channels=16),
                roi_head=dict(
                    bbox_roi_extractor=dict(out_channels=16),
                    bbox_head=dict(
                        in_channels=16,
                        conv_out_channels=16,
                        fc_out_channels=16,
                    ),
                    mask_roi_extractor=dict(out_channels=16),
                    mask_head=dict(
                        in_channels=16,
                        conv_out_channels=16,
                        class_agnostic=True,
                    ),
                ),
                train_cfg=dict(
                    rpn_proposal=dict(max_per_img=20),
                    rcnn=dict(sampler=dict(num=16)),
                ),
                test_cfg=dict(
                    rpn=dict(max_per_img=20), rcnn=dict(score_thr=0.01)
                ),
            ),
        )
    )
    if state != 'scratch':
        cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
    for dataset in (
        cfg.train_dataloader.dataset.dataset,
        cfg.val_dataloader.dataset,
    ):
        dataset.update(data_root=str(data_root), indices=4)
        for step in dataset.pipeline:
            for key in ('scale', 'size', 'crop_size'):
                if key in step:
                    step[key] = SIZE
    cfg.train_dataloader.dataset.oversample_thr = 0
    cfg.val_evaluator.ann_file = str(
        Path(data_root, 'annotations/lvis_v1_val.json')
    )
    cfg.train_cfg.update(max_epochs=2, val_interval=10)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    return cfg


def build(cfg):
    """Build a runner, whatever ran before in this process."""
    # a name used before would get the visualizer of that run
    cfg.experiment_name = f'{Path(cfg.work_dir).name}-{next(NUMBERS)}'
    cfg.visualizer.name = cfg.experiment_name
    return Runner.from_cfg(cfg)
