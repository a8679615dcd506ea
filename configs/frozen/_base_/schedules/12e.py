"""12 epochs of SGD at a batch of 8: one GPU, a day or two."""

# the rate by the linear scaling rule: 0.16 x 8 / 64
max_epochs = 12

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(
        type='SGD', lr=0.16 * 8 / 64, momentum=0.9, weight_decay=4e-5
    ),
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.0067 / 0.16,
        by_epoch=False,
        begin=0,
        end=500,
    ),
    dict(
        type='MultiStepLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        milestones=[8, 11],
        gamma=0.1,
    ),
]

# the linear scaling rule: half the batch, half the rate. mim train ...
# --auto-scale-lr does so for your own batch, which is GPUs x images a GPU
auto_scale_lr = dict(enable=False, base_batch_size=8)
