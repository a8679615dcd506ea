"""12 epochs of SGD at a batch of 8: one GPU, a day or two."""

_base_ = './72e.py'

# the rate by the linear scaling rule
max_epochs = 12

train_cfg = dict(max_epochs=max_epochs, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=0.16 * 8 / 64))
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=max_epochs, milestones=[8, 11]),
]
auto_scale_lr = dict(base_batch_size=8)
