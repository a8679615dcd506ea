"""Results as a detector of MMDetection returns them."""

import numpy as np
import torch
from pycocotools import mask as mask_utils

from .official import SIZE


def data_samples(content, results):
    """One data sample an image, with masks as tensors."""
    ids = [x['id'] for x in content['categories']]
    for image in content['images']:
        own = [x for x in results if x['image_id'] == image['id']]
        boxes = np.array([x['bbox'] for x in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [mask_utils.decode(x['segmentation']) for x in own]
        yield dict(
            img_id=image['id'],
            ori_shape=(SIZE, SIZE),
            pred_instances=dict(
                bboxes=torch.tensor(boxes, dtype=torch.float32),
                scores=torch.tensor(
                    [x['score'] for x in own], dtype=torch.float64
                ),
                labels=torch.tensor(
                    [ids.index(x['category_id']) for x in own],
                    dtype=torch.long,
                ),
                masks=torch.tensor(
                    np.array(masks, bool).reshape(-1, SIZE, SIZE)
                ),
            ),
        )
