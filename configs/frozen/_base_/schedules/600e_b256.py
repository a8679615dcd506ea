"""600 epochs of SGD at a batch of 256, as released for RetinaNet."""

_base_ = './72e.py'

# steps on COCO: 118,287 images / 256 x 600 = 277,235; the rate drops at
# 575/600 (step 265,684) and 590/600 (step 272,615)
max_epochs = 600

train_cfg = dict(max_epochs=max_epochs, val_interval=25)
optim_wrapper = dict(optimizer=dict(lr=0.32))
param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=0.0067 / 0.32),
    dict(_base_.param_scheduler[1], end=max_epochs, milestones=[575, 590]),
]
auto_scale_lr = dict(base_batch_size=256)
