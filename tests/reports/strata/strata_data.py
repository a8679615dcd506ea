"""A small data set and two runs on it, as files."""

import json

import numpy as np
import torch
from PIL import Image

#: Ids with gaps, and names that must not end in markup.
NAMES = {3: 'cat', 7: 'dog', 8: 'owl', 20: '<b>elk</b>', 21: 'a/b', 90: 'ox'}
#: Training annotations a class, over three decades; one an image.
TRAIN = {3: 400, 7: 120, 8: 40, 20: 9, 21: 3, 90: 0}
SIDE = 96


def validation(num_images=60, seed=0):
    """COCO-format ground truth; 'ox' has no instance in it."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(num_images):
        for category in (3, 3, 7, 8, 20, 21):
            # the rarer, the fewer images
            if rng.random() < (0.04 if category == 21 else 0.5):
                box = [*rng.uniform(0, 50, 2), *rng.uniform(12, 44, 2)]
                annotations.append(annotation(image, category, box))
    for index, item in enumerate(annotations):
        item['id'] = index + 1
    return dict(
        images=[
            dict(id=i, file_name=f'{i}.jpg', height=SIDE, width=SIDE)
            for i in range(num_images)
        ],
        annotations=annotations,
        categories=categories(),
    )


def annotation(image, category, box):
    x, y, w, h = (float(v) for v in box)
    return dict(
        image_id=image,
        category_id=category,
        bbox=[x, y, w, h],
        area=w * h,
        iscrowd=0,
        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
    )


def categories(names=NAMES):
    return [dict(id=i, name=name) for i, name in names.items()]


def training():
    """Training annotations with the counts of TRAIN."""
    annotations = [
        dict(annotation(n, category, (0, 0, 9, 9)))
        for category, number in TRAIN.items()
        for n in range(number)
    ]
    for index, item in enumerate(annotations):
        item['id'] = index + 1
    return dict(
        images=[
            dict(id=i, file_name=f'{i}.jpg', height=SIDE, width=SIDE)
            for i in range(max(TRAIN.values()))
        ],
        annotations=annotations,
        categories=categories(),
    )


def detect(gt, recall, seed=0):
    """Results of a detector that finds a share of each class.

    Args:
        gt: Ground truth.
        recall: By category id, or one for all.
        seed: Of what it finds and what it makes up.
    """
    rng = np.random.default_rng(seed)
    results = []
    for item in gt['annotations']:
        category = item['category_id']
        share = recall[category] if isinstance(recall, dict) else recall
        if rng.random() < share:
            shift = rng.normal(0, 2, 4)
            box = (np.array(item['bbox']) + shift).tolist()
            results.append(result(item['image_id'], category, box, rng))
        if rng.random() < 0.1:
            box = [*rng.uniform(0, 50, 2), *rng.uniform(12, 44, 2)]
            results.append(result(item['image_id'], category, box, rng))
    return results


def result(image, category, box, rng):
    return dict(
        image_id=image,
        category_id=category,
        bbox=[float(v) for v in box],
        score=float(rng.uniform(0.1, 1)),
    )


def samples(gt, results, category_ids):
    """Data samples as mmdet dumps them.

    Args:
        gt: Ground truth.
        results: COCO results.
        category_ids: What the labels 0, 1, ... of the detector stand for.
    """
    for image in gt['images']:
        own = [r for r in results if r['image_id'] == image['id']]
        boxes = torch.tensor([r['bbox'] for r in own]).double().reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [category_ids.index(r['category_id']) for r in own]
        yield dict(
            img_id=image['id'],
            ori_shape=(SIDE, SIDE),
            scale_factor=(1.0, 1.0),
            pred_instances=dict(
                bboxes=boxes,
                scores=torch.tensor([r['score'] for r in own]).double(),
                labels=torch.tensor(labels).long(),
            ),
        )


def write(folder, images=True):
    """Write data and two runs: the first finds more of the rare classes."""
    gt = validation()
    good = {3: 0.5, 7: 0.6, 8: 0.7, 20: 0.9, 21: 1.0}
    poor = {3: 0.95, 7: 0.6, 8: 0.5, 20: 0.3, 21: 0.2}
    for name, content in {
        'annotations/val.json': gt,
        'annotations/train.json': training(),
        'frozen/r.bbox.json': detect(gt, good, 1),
        'finetuned/r.bbox.json': detect(gt, poor, 2),
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    if images:
        (folder / 'val2017').mkdir()
        for record in gt['images']:
            image = Image.new('RGB', (SIDE, SIDE), '#557755')
            image.save(folder / 'val2017' / record['file_name'])
    return folder
