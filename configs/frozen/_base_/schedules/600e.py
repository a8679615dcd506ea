"""600 epochs of SGD at a batch of 64, as the authors released it."""

_base_ = './72e.py'

# steps on COCO: 118,287 images / 64 x 600 = 1,108,940; the rate drops at
# 575/600 (step 1,062,734) and 590/600 (step 1,090,458)
max_epochs = 600

train_cfg = dict(max_epochs=max_epochs, val_interval=25)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=max_epochs, milestones=[575, 590]),
]
