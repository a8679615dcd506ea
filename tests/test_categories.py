"""A label means the category of its class's name, in every file."""

import itertools
import json

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS
from PIL import Image

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.categories import ABSENT, ids_of_classes

ORDERS = [
    [(1, 'a'), (2, 'b')],
    [(2, 'b'), (1, 'a')],
    [(1, 'b'), (2, 'a')],
    [(7, 'c'), (2, 'b'), (5, 'a')],
]


def write(folder, categories):
    """Two images, each with an object of a and one of b."""
    ids = {name: number for number, name in categories}
    annotations, images = [], []
    for image in (1, 2):
        Image.new('RGB', (64, 48)).save(folder / f'{image}.jpg')
        images.append(
            dict(id=image, file_name=f'{image}.jpg', width=64, height=48)
        )
        for name, x in (('a', 4), ('b', 34)):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=ids[name],
                    bbox=[x, 8, 20, 16 + image],
                    area=20 * (16 + image),
                    iscrowd=0,
                )
            )
    path = folder / 'ann.json'
    path.write_text(
        json.dumps(
            dict(
                images=images,
                annotations=annotations,
                categories=[dict(id=i, name=n) for i, n in categories],
            )
        )
    )
    return path


def dataset(path, classes, kind='CheckedCocoDataset', **options):
    return DATASETS.build(
        dict(
            type=kind,
            data_root=str(path.parent),
            data_prefix=dict(img=''),
            ann_file=path.name,
            metainfo=dict(classes=classes),
            pipeline=[],
            **options,
        )
    )


def evaluate(path, data, tmp_path):
    """Perfect detections with the labels of a data set."""
    metric = METRICS.build(
        dict(
            type='StratifiedCocoMetric',
            ann_file=str(path),
            resamples=0,
            strata_file=str(tmp_path / 'strata.json'),
        )
    )
    metric.dataset_meta = data.metainfo
    for i in range(len(data)):
        info = data.get_data_info(i)
        boxes = np.array([x['bbox'] for x in info['instances']])
        labels = np.array([x['bbox_label'] for x in info['instances']])
        pred = dict(
            bboxes=torch.tensor(boxes).float(),
            labels=torch.tensor(labels),
            scores=torch.ones(len(labels)),
        )
        metric.process({}, [dict(img_id=info['img_id'], pred_instances=pred)])
    found = metric.evaluate(len(data))
    record = json.loads((tmp_path / 'strata.json').read_text())
    return found['coco/bbox_mAP'], json.dumps(record)


@pytest.mark.parametrize('classes', [('a', 'b'), ('b', 'a')])
@pytest.mark.parametrize('categories', ORDERS)
def test_perfect_detections_have_ap_1_in_any_order(
    tmp_path, categories, classes
):
    path = write(tmp_path, categories)
    data = dataset(path, classes)
    label = {name: i for i, name in enumerate(classes)}
    for i in range(2):
        found = [x['bbox_label'] for x in data.get_data_info(i)['instances']]
        assert found == [label['a'], label['b']]
        assert data.get_cat_ids(i) == found
    ap, _ = evaluate(path, data, tmp_path)
    assert ap == pytest.approx(1)


def test_labels_mean_the_same_in_files_that_list_categories_differently(
    tmp_path,
):
    """A detector trained on one file is judged by another."""
    meanings = set()
    for number, categories in enumerate(ORDERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        data = dataset(write(folder, categories), ('a', 'b'))
        boxes = data.get_data_info(0)['instances']
        meanings.add(tuple((x['bbox'][0], x['bbox_label']) for x in boxes))
    assert len(meanings) == 1


@pytest.mark.parametrize(
    'categories, classes',
    [c for c in itertools.product(ORDERS, [('a', 'b'), ('b', 'a')])],
)
def test_a_metric_refuses_mmdetections_data_set_in_another_order(
    tmp_path, categories, classes
):
    path = write(tmp_path, categories)
    data = dataset(path, classes, kind='CocoDataset')
    listed = tuple(n for _, n in categories if n in classes)
    if listed == classes:
        assert evaluate(path, data, tmp_path)[0] == pytest.approx(1)
        return
    with pytest.raises(ValueError, match='must mean the same') as caught:
        evaluate(path, data, tmp_path)
    assert str(listed) in str(caught.value), 'both orders'
    assert str(classes) in str(caught.value)


def test_one_name_of_two_categories_is_refused_with_both_ids(tmp_path):
    path = write(tmp_path, [(1, 'a'), (2, 'b'), (0, 'a')])
    for kind in (True, False):
        with pytest.raises(ValueError, match="'a' with the ids 1 and 0"):
            dataset(path, ('a', 'b'), test_mode=kind)
    # a name that no class has does not matter
    assert len(dataset(path, ('b',))) == 2


def test_a_detector_of_more_classes_is_judged_by_those_of_the_file(tmp_path):
    path = write(tmp_path, [(18, 'a'), (3, 'b')])
    classes = ('x', 'b', 'y', 'a', 'z')
    with pytest.raises(ValueError, match="the first is 'x'"):
        dataset(path, classes)
    data = dataset(path, classes, test_mode=True)
    metric = METRICS.build(
        dict(
            type='StratifiedCocoMetric',
            ann_file=str(path),
            resamples=0,
            strata_file=False,
        )
    )
    metric.dataset_meta = data.metainfo
    for i in range(2):
        info = data.get_data_info(i)
        boxes = torch.tensor([x['bbox'] for x in info['instances']]).float()
        labels = torch.tensor([x['bbox_label'] for x in info['instances']])
        assert labels.tolist() == [3, 1]
        pred = dict(
            bboxes=boxes[[0, 0, 1, 1]],
            # the file does not have the classes 0 and 4
            labels=torch.stack(
                (
                    labels[[0]],
                    labels.new_tensor([4]),
                    labels[[1]],
                    labels.new_tensor([0]),
                )
            ).view(-1),
            scores=torch.tensor([0.5, 0.9, 0.5, 0.9]),
        )
        metric.process({}, [dict(img_id=info['img_id'], pred_instances=pred)])
    assert metric.evaluate(2)['coco/bbox_mAP'] == pytest.approx(1)


def test_a_misspelt_class_is_refused_in_tests_too():
    ids, names = [1, 2], ['traffic light', 'b']
    with pytest.raises(ValueError, match='did you mean'):
        ids_of_classes(
            ['trafic light', 'b'], ids, names, 'x.json', allow_missing=True
        )
    found = ids_of_classes(
        ['c', 'b'], ids, names, 'x.json', allow_missing=True
    )
    assert found == [ABSENT, 2]
    for classes, words in (
        (['c', 'd'], "the first is 'c'"),
        (['b', 'b'], 'more than once'),
    ):
        with pytest.raises(ValueError, match=words):
            ids_of_classes(classes, ids, names, 'x.json', allow_missing=True)


@pytest.mark.parametrize('classes', [('a', 'b'), ('b', 'a')])
def test_several_data_sets_with_the_same_ids_are_refused_before_the_loop(
    tmp_path, classes
):
    parts = []
    for name, own in (('A', ('a', 'b')), ('B', classes)):
        (tmp_path / name).mkdir()
        path = write(tmp_path / name, ORDERS[0])
        parts.append(
            dict(
                type='CheckedCocoDataset',
                data_root=str(path.parent),
                data_prefix=dict(img=''),
                ann_file=path.name,
                metainfo=dict(classes=own),
                pipeline=[],
            )
        )
    both = DATASETS.build(dict(type='ConcatDataset', datasets=parts))
    metric = METRICS.build(
        dict(type='StratifiedCocoMetric', ann_file=str(path), resamples=0)
    )
    with pytest.raises(ValueError, match='got a ConcatDataset of 4'):
        metric.dataset_meta = both.metainfo
