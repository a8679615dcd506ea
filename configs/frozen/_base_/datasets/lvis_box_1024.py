"""LVIS v1: boxes alone, large scale jitter at 1024 x 1024."""

_base_ = ['./lvis.py', '../pipelines/box_1024.py']

train_pipeline = _base_.lsj_train
test_pipeline = _base_.lsj_test
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
