"""72 epochs of SGD at a batch of 64, as the authors released it."""

# steps on COCO: 118,287 images / 64 x 72 = 133,056; the rate drops at 48/72
# (step 88,704) and 68/72 (step 125,664)
max_epochs = 72

train_cfg = dict(
    type='mmfrozen.ResumableEpochBasedTrainLoop',
    max_epochs=max_epochs,
    val_interval=6,
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.16, momentum=0.9, weight_decay=4e-5),
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.0067 / 0.16,  # starts at a rate of 0.0067
        by_epoch=False,
        begin=0,
        end=500,
    ),
    dict(
        type='MultiStepLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        milestones=[48, 68],
        gamma=0.1,
    ),
]

# the linear scaling rule: half the batch, half the rate. mim train ...
# --auto-scale-lr does so for your own batch, which is GPUs x images a GPU
auto_scale_lr = dict(enable=False, base_batch_size=64)
