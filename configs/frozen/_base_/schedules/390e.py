"""390 epochs of SGD at a batch of 256: the EfficientNet-B7 recipe."""

_base_ = './72e.py'

# Copy-Paste's (tensorflow/tpu): 180,000 steps x 256 / 118,287 images = 390
# epochs; the rate drops at steps 162,000, 171,000 and 175,500
max_epochs = 390

train_cfg = dict(max_epochs=max_epochs, val_interval=15)
optim_wrapper = dict(optimizer=dict(lr=0.32))
param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=0.0067 / 0.32, end=1000),
    dict(
        _base_.param_scheduler[1], end=max_epochs, milestones=[351, 370, 380]
    ),
]
auto_scale_lr = dict(base_batch_size=256)
