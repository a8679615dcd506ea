"""36 epochs of AdamW at a batch of 64: for ConvNeXt and transformers."""

# MMDetection's 3x for Swin, 1e-4 at a batch of 16, by the square root rule:
# 1e-4 x (64 / 16) ** 0.5
max_epochs = 36

train_cfg = dict(
    type='mmfrozen.ResumableEpochBasedTrainLoop',
    max_epochs=max_epochs,
    val_interval=3,
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.05),
    # a pre-trained backbone that trains, in the control, takes small steps
    paramwise_cfg=dict(
        custom_keys=dict(backbone=dict(lr_mult=0.1)), norm_decay_mult=0.0
    ),
    clip_grad=dict(max_norm=1.0),
)

param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000
    ),
    dict(
        type='MultiStepLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        milestones=[27, 33],
        gamma=0.1,
    ),
]

auto_scale_lr = dict(enable=False, base_batch_size=64)
