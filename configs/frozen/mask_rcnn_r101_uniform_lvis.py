"""The main experiment without class-balanced sampling: every image once.

    mim train mmdet configs/frozen/mask_rcnn_r101_uniform_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_lvis.py'

# no class is rarer than 0 images: nothing is repeated
train_dataloader = dict(dataset=dict(oversample_thr=0.0))
