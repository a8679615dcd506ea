"""72 epochs of SGD at a batch of 256, as released for RetinaNet."""

_base_ = './72e.py'

# steps on COCO: 118,287 images / 256 x 72 = 33,264; the rate drops at 48/72
# (step 22,176) and 68/72 (step 31,416)
optim_wrapper = dict(optimizer=dict(lr=0.32))
param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=0.0067 / 0.32),
    _base_.param_scheduler[1],
]
auto_scale_lr = dict(base_batch_size=256)
