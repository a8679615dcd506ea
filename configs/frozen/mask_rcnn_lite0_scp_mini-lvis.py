"""The demo with Copy-Paste (docs/copy_paste.md).

    mim train mmdet configs/frozen/mask_rcnn_lite0_scp_mini-lvis.py --gpus 0

2 CPU cores, 4 images a step. Box and mask AP: not run.
"""

_base_ = './mask_rcnn_lite0_mini-lvis.py'

train_dataloader = dict(
    sampler=dict(
        _delete_=True,  # drops the plain sampler: this one numbers its draws
        type='mmfrozen.NumberedSampler',
        sampler=dict(type='InfiniteSampler', shuffle=True),
    ),
    dataset=dict(
        _delete_=True,  # drops the data set of single images
        type='mmfrozen.CopyPasteDataset',
        dataset=dict(
            _base_.train_dataloader.dataset,
            dataset=dict(
                _base_.train_dataloader.dataset.dataset,
                pipeline=_base_.train_pipeline[:-1],
            ),
        ),
        pipeline=[
            dict(type='mmfrozen.SimpleCopyPaste'),
            dict(type='PackDetInputs'),
        ],
    ),
)
