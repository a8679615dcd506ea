"""The authors' twelve settings against their numbers, resolved.

The numbers are those of official/projects/backbone_reuse of tensorflow/models
and of the experiments that its files start from; Figures are the paper's.
"""

import pytest

from mmfrozen.freezing import count_parameters

from .pack import PACK, build, load

COCO_IMAGES = 118_287
TWELVE = [
    (detector, fpn, epochs)
    for detector in ('faster_rcnn', 'cascade_rcnn', 'retinanet')
    for fpn in (True, False)
    for epochs in (72, 600)
]
#: Batch, rate, and by epochs: steps and the steps at which the rate drops.
SCHEDULES = {
    'rcnn': (
        64,
        0.16,
        {
            72: (133_056, [88_704, 125_664]),
            600: (1_108_940, [1_062_734, 1_090_458]),
        },
    ),
    'retinanet': (
        256,
        0.32,
        {72: (33_264, [22_176, 31_416]), 600: (277_235, [265_684, 272_615])},
    ),
}


@pytest.fixture(
    params=TWELVE, ids=lambda p: f'{p[0]}-{"fpn" if p[1] else "nas"}-{p[2]}'
)
def setting(request):
    detector, fpn, epochs = request.param
    name = f'{detector}_rs101{"_fpn" * fpn}{"_600e" * (epochs == 600)}_coco'
    path = PACK / f'frozen/{name}.py'
    return detector, fpn, epochs, load(path), path


def test_schedule(setting):
    detector, _, epochs, cfg, _ = setting
    family = 'retinanet' if detector == 'retinanet' else 'rcnn'
    batch, rate, by_epochs = SCHEDULES[family]
    steps, drops = by_epochs[epochs]
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert batch % cfg.train_dataloader.batch_size == 0
    # a step here and there: steps an epoch were rounded, down (72) or not
    steps_an_epoch = COCO_IMAGES / batch
    assert cfg.train_cfg.type == 'mmfrozen.ResumableEpochBasedTrainLoop'
    assert cfg.train_cfg.max_epochs == epochs
    assert steps == pytest.approx(epochs * steps_an_epoch, rel=2e-3)
    warm_up, decay = cfg.param_scheduler
    assert decay.type == 'MultiStepLR' and decay.by_epoch
    assert (decay.gamma, decay.end) == (0.1, epochs)
    assert drops == pytest.approx(
        [epoch * steps_an_epoch for epoch in decay.milestones], rel=2e-3
    )
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(
        type='SGD', lr=rate, momentum=0.9, weight_decay=4e-5
    )
    assert (warm_up.type, warm_up.by_epoch) == ('LinearLR', False)
    assert (warm_up.begin, warm_up.end) == (0, 500)
    assert warm_up.start_factor * rate == pytest.approx(0.0067)


def test_images(setting):
    detector, *_, cfg, _ = setting
    side = 1280 if detector == 'cascade_rcnn' else 1024
    pipeline = {
        step.type: step for step in cfg.train_dataloader.dataset.pipeline
    }
    assert pipeline['RandomResize'].scale == (side, side)
    assert pipeline['RandomResize'].ratio_range == (0.1, 2.0)
    assert pipeline['RandomResize'].keep_ratio
    assert pipeline['RandomCrop'].crop_size == (side, side)
    assert pipeline['Pad'].size == (side, side)
    assert pipeline['RandomFlip'].prob == 0.5
    assert cfg.train_dataloader.dataset.ann_file.endswith('train2017.json')
    resize = next(s for s in cfg.test_pipeline if s.type == 'Resize')
    assert resize.scale == (side, side)


def test_backbone(setting):
    *_, cfg, path = setting
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.frozen) == ('FrozenBackbone', True)
    assert backbone.norm_eval is True
    assert backbone.backbone.model_name == 'resnetrs101'
    counts = count_parameters(build(path).backbone)
    assert counts.trainable == 0
    assert counts.total == pytest.approx(61.7e6, rel=5e-3)


def test_norms_and_activations(setting):
    *_, cfg, path = setting
    for part in ('neck', 'rpn_head', 'bbox_head'):
        options = cfg.model.get(part) or {}
        if 'norm_cfg' in options:
            norm = options.norm_cfg
            assert norm.type == 'SyncBN' and norm.eps == 1e-4
            # TensorFlow's momentum is the old statistics' share
            assert norm.momentum == pytest.approx(1 - 0.997)
    model = build(path)
    parts = [m for n, m in model.named_modules() if 'backbone' not in n]
    found = {type(m).__name__ for m in parts}
    assert 'SyncBatchNorm' in found and 'BatchNorm2d' not in found
    assert 'SiLU' in found
    for module in parts:
        if type(module).__name__ == 'SyncBatchNorm':
            assert module.eps == 1e-4
            assert module.momentum == pytest.approx(0.003)
    # of RoI heads; MMDetection has idle ReLUs in its mask and dense heads
    head = getattr(model, 'roi_head', None)
    if head is not None:
        assert not any(type(m).__name__ == 'ReLU' for m in head.modules())


def test_levels(setting):
    detector, fpn, _, cfg, _ = setting
    neck = cfg.model.neck
    assert (neck.out_channels, neck.num_outs) == (256, 5)
    head = cfg.model.get('rpn_head') or cfg.model.bbox_head
    strides = head.anchor_generator.strides
    if fpn and detector != 'retinanet':
        assert strides == [4, 8, 16, 32, 64]  # P2 to P6
        assert neck.type == 'FPN' and neck.get('start_level', 0) == 0
        assert neck.add_extra_convs == 'on_output'
    else:
        assert strides == [8, 16, 32, 64, 128]  # P3 to P7
        assert neck.start_level == 1
    if not fpn:
        assert neck.type == 'AnySizeNASFPN'
        assert neck.stack_times == 5
        assert neck.act_cfg.type == 'SiLU'


def test_anchors_and_proposals(setting):
    detector, _, _, cfg, path = setting
    if detector == 'retinanet':
        generator = cfg.model.bbox_head.anchor_generator
        assert generator.octave_base_scale == 4
        assert generator.scales_per_octave == 3
        assert generator.ratios == [0.5, 1.0, 2.0]
        assert build(path).bbox_head.stacked_convs == 4
        assert cfg.model.test_cfg.max_per_img == 100
        return
    rpn = cfg.model.rpn_head
    assert rpn.num_convs == 1 and rpn.feat_channels == 256
    assert rpn.anchor_generator.scales == [8]
    assert rpn.anchor_generator.ratios == [0.5, 1.0, 2.0]
    assert rpn.act_cfg.type == 'SiLU'
    train_cfg = cfg.model.train_cfg
    assert train_cfg.rpn.sampler.num == 256
    assert train_cfg.rpn.sampler.pos_fraction == 0.5
    assert train_cfg.rpn.assigner.pos_iou_thr == 0.7
    assert train_cfg.rpn.assigner.neg_iou_thr == 0.3
    assert train_cfg.rpn.allowed_border == -1
    for proposals, before in (
        (train_cfg.rpn_proposal, 2000),
        (cfg.model.test_cfg.rpn, 1000),
    ):
        assert (proposals.nms_pre, proposals.max_per_img) == (before, 1000)
        assert proposals.nms.iou_threshold == 0.7


def test_box_heads(setting):
    detector, *_, cfg, path = setting
    if detector == 'retinanet':
        return
    cascade = detector == 'cascade_rcnn'
    heads = cfg.model.roi_head.bbox_head
    stages = cfg.model.train_cfg.rcnn
    heads, stages = (heads, stages) if cascade else ([heads], [stages])
    assert len(heads) == len(stages) == (3 if cascade else 1)
    deviations = [
        [0.1, 0.1, 0.2, 0.2],
        [0.05, 0.05, 0.1, 0.1],
        [0.033, 0.033, 0.067, 0.067],
    ]
    for head, deviation in zip(heads, deviations, strict=False):
        assert (head.num_shared_convs, head.conv_out_channels) == (4, 256)
        assert (head.num_shared_fcs, head.fc_out_channels) == (2, 1024)
        assert head.reg_class_agnostic is cascade
        assert head.bbox_coder.target_stds == deviation
        assert head.act_cfg.type == 'SiLU'
    for stage, iou in zip(stages, (0.5, 0.7, 0.8), strict=False):
        assert stage.assigner.pos_iou_thr == iou
        assert stage.assigner.neg_iou_thr == iou
        assert (stage.sampler.num, stage.sampler.pos_fraction) == (512, 0.25)
    # the norms after the fully connected layers too
    built = build(path).roi_head.bbox_head
    for head in built if cascade else [built]:
        names = {
            type(m).__name__
            for m in (*head.shared_convs.modules(), *head.shared_fcs.modules())
        }
        assert 'SyncBatchNorm' in names
    assert cfg.model.test_cfg.rcnn.max_per_img == 100
    assert cfg.model.test_cfg.rcnn.nms.iou_threshold == 0.5


@pytest.mark.parametrize(
    ('name', 'millions'),
    [
        ('faster_rcnn_rs101_fpn_coco', 21.8),
        ('faster_rcnn_rs101_coco', 40.9),
        ('cascade_rcnn_rs101_coco', 71.2),
    ],
)
def test_trainable_size_is_the_papers_within_8_percent(name, millions):
    trainable = count_parameters(build(PACK / f'frozen/{name}.py')).trainable
    assert trainable / 1e6 == pytest.approx(millions, rel=0.08)


def test_main_experiment_has_the_same_recipe():
    cfg = load(PACK / 'frozen/mask_rcnn_r101_lvis.py')
    released = load(PACK / 'frozen/faster_rcnn_rs101_coco.py')
    assert cfg.train_dataloader.dataset.type == 'ClassBalancedDataset'
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert cfg[key] == released[key]
    for part in ('neck', 'rpn_head'):
        assert cfg.model[part] == released.model[part]
    assert cfg.model.test_cfg.rcnn.max_per_img == 300
