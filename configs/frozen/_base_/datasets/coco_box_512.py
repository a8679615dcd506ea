"""Data in COCO's format: boxes alone, scale jitter at 512 x 512, for a CPU."""

_base_ = ['./coco.py', '../pipelines/box_512.py']

train_pipeline = _base_.lsj_train
test_pipeline = _base_.lsj_test
train_dataloader = dict(
    batch_size=2,
    num_workers=1,  # two cores: one loads, both compute
    pin_memory=False,
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
