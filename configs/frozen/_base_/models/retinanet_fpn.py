"""RetinaNet of the authors' settings, with FPN over P3 to P7.

The experiment sets the backbone and neck.in_channels.
"""

_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

# TensorFlow's momentum 0.997 is the share of the old statistics that stays
norm_cfg = dict(type='SyncBN', momentum=0.003, eps=1e-4)
act_cfg = dict(type='SiLU')  # swish

model = dict(
    data_preprocessor=dict(type='BatchedDetDataPreprocessor'),
    neck=dict(
        add_extra_convs='on_output',  # P6 and P7
        relu_before_extra_convs=True,
        no_norm_on_lateral=True,
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        type='NormActRetinaHead',
        num_ins=5,  # norms are each level's own
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
)
