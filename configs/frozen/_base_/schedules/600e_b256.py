"""600 epochs of SGD at a batch of 256, as released for RetinaNet."""

# steps on COCO: 118,287 images / 256 x 600 = 277,235; the rate drops at
# 575/600 (step 265,684) and 590/600 (step 272,615)
max_epochs = 600

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=25
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.32, momentum=0.9, weight_decay=4e-5),
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.0067 / 0.32,  # starts at a rate of 0.0067
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
auto_scale_lr = dict(enable=False, base_batch_size=256)
