"""600 epochs of SGD at a batch of 64, as the authors released it."""

# steps on COCO: 118,287 images / 64 x 600 = 1,108,940; the rate drops at
# 575/600 (step 1,062,734) and 590/600 (step 1,090,458)
max_epochs = 600

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=25
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
        milestones=[575, 590],
        gamma=0.1,
    ),
]

# the linear scaling rule: half the batch, half the rate. mim train ...
# --auto-scale-lr does so for your own batch, which is GPUs x images a GPU
auto_scale_lr = dict(enable=False, base_batch_size=64)
