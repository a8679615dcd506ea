"""A few hundred AdamW steps at a batch of 4: minutes on a laptop CPU."""

max_iters = 350

train_cfg = dict(
    type='mmfrozen.ResumableIterBasedTrainLoop',
    max_iters=max_iters,
    val_interval=max_iters,
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        T_max=max_iters - 50,
        eta_min=1e-5,
    ),
]

auto_scale_lr = dict(enable=False, base_batch_size=4)
