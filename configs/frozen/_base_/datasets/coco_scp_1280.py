"""COCO 2017: Copy-Paste on large scale jitter at 1280 x 1280."""

_base_ = ['./coco.py', '../pipelines/scp_1280.py']

train_pipeline = _base_.lsj_train
test_pipeline = _base_.lsj_test
train_dataloader = dict(
    sampler=dict(
        _delete_=True,  # drops the plain sampler: this one numbers its draws
        type='mmfrozen.NumberedSampler',
        sampler=dict(type='DefaultSampler', shuffle=True),
    ),
    dataset=dict(
        _delete_=True,  # drops the data set of single images
        type='mmfrozen.CopyPasteDataset',
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline),
        pipeline=_base_.paste_train,
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
