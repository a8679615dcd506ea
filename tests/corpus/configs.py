"""Their texts: each inherits `base.py`, which holds the made data."""

LEVELS = '[64, 128, 256, 512]'
RESNET = """dict(_delete_=True, type={type!r}, depth=18, num_stages=4,
    out_indices=(0, 1, 2, 3), style='pytorch',
    norm_cfg=dict(type='BN', requires_grad=True){more})"""
PRETRAINED = (
    ", init_cfg=dict(type='Pretrained', checkpoint='{{fileDirname}}/r18.pth')"
)
WEIGHTS = ", weights='{{fileDirname}}/r18.pth'"


def backbone(kind, more=PRETRAINED):
    """A model with another ResNet-18."""
    return f'model = dict(backbone={RESNET.format(type=kind, more=more)})'


def torchvision_body(kind):
    """A model on a backbone that is no ResNet of MMDetection's."""
    return (
        f"model = dict(backbone=dict(_delete_=True, type='{kind}'{WEIGHTS}))"
    )


def optim(text):
    """Other settings of the optimizer wrapper."""
    return f'optim_wrapper = dict({text})'


#: Whatever a config is, it ends in two steps of a frozen run and its control.
WORKS = {
    'as it is': '',
    # backbones
    'frozen_stages -1': 'model = dict(backbone=dict(frozen_stages=-1))',
    'all stages frozen by hand': (
        'model = dict(backbone=dict(frozen_stages=4, norm_eval=True))'
    ),
    'norm_eval False': 'model = dict(backbone=dict(norm_eval=False))',
    'norms that do not train': (
        'model = dict(backbone=dict(norm_cfg=dict(requires_grad=False)))'
    ),
    'SyncBN': "model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))",
    'checkpointing': 'model = dict(backbone=dict(with_cp=True))',
    'scoped type': "model = dict(backbone=dict(type='mmdet.ResNet'))",
    'scoped Pretrained': (
        'model = dict(backbone=dict(init_cfg=dict('
        "type='mmengine.Pretrained')))"
    ),
    'loads in the constructor': backbone('LoadsInConstructor', WEIGHTS),
    'loads in init_weights': backbone('LoadsInInitWeights', WEIGHTS),
    'torchvision inside': torchvision_body('TorchvisionBody'),
    'levels as a list': backbone('ReturnsList'),
    'dropout in forward': backbone('DropsInForward'),
    'norms on outputs': backbone('NamedNorms'),
    'three levels': (
        'model = dict(backbone=dict(out_indices=(1, 2, 3)),\n'
        '    neck=dict(in_channels=[128, 256, 512], start_level=0))'
    ),
    # necks and heads
    'a neck of their own': (
        "model = dict(neck=dict(_delete_=True, type='PlainNeck', "
        f'widths={LEVELS}, width=16))'
    ),
    'a subclass that skips a level': (
        "model = dict(neck=dict(type='SkipsLevel', start_level=0))"
    ),
    'PAFPN': "model = dict(neck=dict(type='PAFPN'))",
    'a head of their own': "model = dict(bbox_head=dict(type='OwnHead'))",
    'scoped head': "model = dict(bbox_head=dict(type='mmdet.RetinaHead'))",
    'FCOS': (
        "model = dict(type='FCOS', bbox_head=dict(_delete_=True, "
        "type='FCOSHead', num_classes=2, in_channels=16, feat_channels=16, "
        'stacked_convs=1, norm_cfg=None), train_cfg=dict(_delete_=True))'
    ),
    'ATSS': (
        "model = dict(type='ATSS', bbox_head=dict(_delete_=True, "
        "type='ATSSHead', num_classes=2, in_channels=16, feat_channels=16, "
        "stacked_convs=1, norm_cfg=dict(type='BN'), "
        "loss_bbox=dict(type='GIoULoss', loss_weight=2.0), "
        "anchor_generator=dict(type='AnchorGenerator', "
        'ratios=[1.0], octave_base_scale=8, scales_per_octave=1, '
        'strides=[8, 16, 32, 64, 128])), train_cfg=dict(_delete_=True, '
        "assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, "
        'pos_weight=-1, debug=False))'
    ),
    # optimizers
    'AdamW': optim("optimizer=dict(_delete_=True, type='AdamW', lr=1e-4)"),
    'scoped wrapper': optim("type='mmengine.OptimWrapper'"),
    'gradient clipping': optim('clip_grad=dict(max_norm=1.0)'),
    'accumulation': optim('accumulative_counts=2'),
    'norms without decay': optim('paramwise_cfg=dict(norm_decay_mult=0.0)'),
    'backbone at a tenth of the rate': optim(
        "paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)})"
    ),
    'backbone at rate 0': optim(
        "paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.0, "
        'decay_mult=0.0)})'
    ),
    'head at twice the rate': optim(
        "paramwise_cfg=dict(custom_keys={'bbox_head': dict(lr_mult=2.0)})"
    ),
    # runs
    'EMA': (
        "custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', "
        'momentum=0.0002)]'
    ),
    'a hook of their own': "custom_hooks = [dict(type='CountsSteps')]",
    'iterations': (
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', "
        'max_iters=2, val_interval=10)\n'
        'param_scheduler = []\n'
        'default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2))\n'
        'train_dataloader = dict(sampler=dict(_delete_=True, '
        "type='InfiniteSampler'))"
    ),
    'repeated data': (
        'train_dataloader = dict(dataset=dict(_delete_=True, '
        "type='RepeatDataset', times=1, dataset={{_base_.data}}))"
    ),
    'no schedule': 'param_scheduler = []',
    'imports without a failure': (
        "custom_imports = dict(imports='tests.corpus.third_party', "
        'allow_failed_imports=True)'
    ),
    'cudnn and launcher keys': (
        'env_cfg = dict(cudnn_benchmark=True)\nfind_unused_parameters = False'
    ),
    'seed': 'randomness = dict(seed=3, deterministic=False)',
}

#: FrozenGuardHook looks after `model.backbone` alone.
NESTED = (
    "model = dict(_delete_=True, type='DetectorInDetector', "
    'data_preprocessor={{_base_.model.data_preprocessor}}, '
    'detector={{_base_.model}})'
)

#: What cannot be right, and the words that say so: config, words.
REFUSED = {
    'forward pass under no_grad': (
        torchvision_body('UnderNoGrad'),
        ('finetuned', 'moved'),
    ),
    'forward pass under inference_mode': (
        torchvision_body('UnderInferenceMode'),
        ('finetuned', 'moved'),
    ),
    'neck of other channels': (
        'model = dict(neck=dict(in_channels=[64, 128, 256, 500]))',
        ('model.neck.in_channels', '512'),
    ),
    'classes in place of names': (
        'from mmdet.models import ResNet\n'
        'model = dict(backbone=dict(type=ResNet))',
        ('model.backbone.type', "'ResNet' as text"),
    ),
    'misspelt type': (
        "model = dict(backbone=dict(type='ResNett'))",
        ('ResNett', 'custom_imports'),
    ),
    'misspelt option': (
        'model = dict(backbone=dict(deph=18))',
        ('model.backbone', 'deph'),
    ),
    'no backbone': (
        'model = dict(backbone=dict(_delete_=True))',
        ('model.backbone',),
    ),
}
