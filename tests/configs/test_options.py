"""What README says to type: precision, the batch's rate, own data."""

import copy
import json
import logging
import types

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image

from .pack import FROZEN, PACK, load
from .test_step import shrink

TINY = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))


def with_options(path, *options):
    cfg = copy.deepcopy(load(path))
    parsed = dict(option.split('=') for option in options)
    cfg.merge_from_dict(
        {k: DictAction._parse_iterable(v) for k, v in parsed.items()}
    )
    return cfg


@pytest.mark.parametrize(
    ('options', 'dtype'),
    [
        (
            [
                'optim_wrapper.type=AmpOptimWrapper',
                'optim_wrapper.dtype=bfloat16',
            ],
            torch.bfloat16,
        ),
        (  # what --amp sets
            [
                'optim_wrapper.type=AmpOptimWrapper',
                'optim_wrapper.loss_scale=dynamic',
            ],
            None,
        ),
    ],
    ids=['bf16', 'fp16'],
)
def test_mixed_precision_holds_what_trains_alone(options, dtype, monkeypatch):
    module = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    monkeypatch.setattr(f'{module}.is_cuda_available', lambda: True)
    model = copy.deepcopy(TINY)
    model[0].requires_grad_(False)
    cfg = with_options(PACK / 'frozen/mask_rcnn_rs101_coco.py', *options)
    with DefaultScope.overwrite_default_scope('mmdet'):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper).__name__ == 'AmpOptimWrapper'
    assert wrapper.cast_dtype == dtype
    held = {id(p) for g in wrapper.param_groups for p in g['params']}
    assert held == {id(p) for p in model[1].parameters()}
    assert wrapper._scale_update_param is None, 'the loss scale is dynamic'


@pytest.mark.parametrize('images', [1, 2, 8])
def test_rate_scales_with_the_batch_in_every_experiment(images):
    for path in FROZEN:
        cfg = load(path)
        wrapper = build_optim_wrapper(
            copy.deepcopy(TINY), dict(optimizer=cfg.optim_wrapper.optimizer)
        )
        runner = types.SimpleNamespace(
            _train_dataloader=dict(batch_size=images),
            world_size=4,
            param_schedulers=[],
            logger=logging.getLogger(),
        )
        runner.optim_wrapper = wrapper
        auto_scale_lr = dict(cfg.auto_scale_lr, enable=True)
        Runner.scale_lr(runner, wrapper, auto_scale_lr)
        base = cfg.auto_scale_lr.base_batch_size
        expected = cfg.optim_wrapper.optimizer.lr * 4 * images / base
        assert wrapper.param_groups[0]['lr'] == pytest.approx(expected)


def test_cascade_averages_the_class_scores_of_its_stages():
    """As the authors' ``cascade_class_ensemble``: of the logits."""
    cfg = shrink(
        copy.deepcopy(
            load(PACK / 'frozen/cascade_rcnn_rs101_fpn_coco.py').model
        )
    )
    roi_cfg = cfg.roi_head
    for head in roi_cfg.bbox_head:
        head.update(num_shared_convs=0, fc_out_channels=4, in_channels=4)
    roi_cfg.bbox_roi_extractor.out_channels = 4
    roi_cfg.update(train_cfg=cfg.train_cfg.rcnn, test_cfg=cfg.test_cfg.rcnn)
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(roi_cfg).eval()
    stages = torch.randn(3, 5, 81)

    def forward(stage, x, rois):
        return dict(cls_score=stages[stage], bbox_pred=torch.zeros(5, 4))

    head._bbox_forward = forward
    rois = torch.tensor([[0, 0, 0, 9.0, 9.0]]).repeat(5, 1)
    _, scores, _ = head._refine_roi((), rois, [dict(img_shape=(32, 32))], [5])
    torch.testing.assert_close(scores[0], stages.mean(0))


@pytest.fixture
def own(tmp_path):
    """Two images with a cat and a dog in COCO's format."""
    (tmp_path / 'images').mkdir()
    boxes = [[4, 4, 30, 20], [10, 12, 40, 30]]
    for name in ('train', 'val'):
        images, annotations = [], []
        for i, (x, y, w, h) in enumerate(boxes, start=1):
            Image.new('RGB', (64, 48)).save(tmp_path / f'images/{name}{i}.jpg')
            images.append(
                dict(id=i, file_name=f'{name}{i}.jpg', width=64, height=48)
            )
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=i,
                    image_id=i,
                    category_id=i,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[outline],
                )
            )
        (tmp_path / f'{name}.json').write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=[
                        dict(id=1, name='cat'),
                        dict(id=2, name='dog'),
                    ],
                )
            )
        )
    return tmp_path


def own_config(folder, classes):
    """The experiment with two lines changed."""
    text = (PACK / 'frozen/mask_rcnn_rs101_12e_own.py').read_text()
    text = text.replace("('cat', 'dog')", repr(classes))
    text = text.replace("'data/own/'", repr(f'{folder}/'))
    text = text.replace('./_base_', str(PACK / 'frozen/_base_'))
    path = folder / 'mine.py'
    path.write_text(text)
    return Config.fromfile(path)


def test_own_data_is_read_with_its_classes(own):
    cfg = own_config(own, ('dog', 'cat'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        sample = dataset[0]
    assert dataset.metainfo['classes'] == ('dog', 'cat')
    assert sample['inputs'].shape == (3, 1024, 1024)
    labels = [
        dataset.get_data_info(i)['instances'][0]['bbox_label']
        for i in range(2)
    ]
    assert labels == [1, 0], 'a cat, then a dog'


def test_misspelt_class_of_own_data_is_refused(own):
    cfg = own_config(own, ('cat', 'dgo'))
    with (
        DefaultScope.overwrite_default_scope('mmdet'),
        pytest.raises(ValueError, match="'dgo' .did you mean 'dog'"),
    ):
        DATASETS.build(cfg.train_dataloader.dataset)
