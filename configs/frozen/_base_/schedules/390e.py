"""390 epochs of SGD at a batch of 256: the EfficientNet-B7 recipe."""

# Copy-Paste's (tensorflow/tpu): 180,000 steps x 256 / 118,287 images = 390
# epochs; the rate drops at steps 162,000, 171,000 and 175,500
max_epochs = 390

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=15
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
        end=1000,
    ),
    dict(
        type='MultiStepLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        milestones=[351, 370, 380],
        gamma=0.1,
    ),
]

# the linear scaling rule: half the batch, half the rate. mim train ...
# --auto-scale-lr does so for your own batch, which is GPUs x images a GPU
auto_scale_lr = dict(enable=False, base_batch_size=256)
