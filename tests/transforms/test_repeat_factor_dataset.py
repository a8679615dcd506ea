"""Repeat factors of images and objects, as in the paper of IRFS."""

import math
from collections import Counter

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset, ClassBalancedDataset

from mmfrozen.transforms import InstanceAwareRepeatFactorDataset
from mmfrozen.transforms.class_index import index_classes

from .datasets import balanced, lvis, lvis_config


class Labelled(BaseDataset):
    """Images that are lists of labels."""

    def __init__(self, images):
        self.images = images
        super().__init__()

    def load_data_list(self):
        return [dict(labels=labels) for labels in self.images]

    def get_cat_ids(self, index):
        return self.images[index]


def factors(dataset, threshold, kind=InstanceAwareRepeatFactorDataset):
    wrapped = kind(dataset, oversample_thr=threshold)
    return wrapped._get_repeat_factors(dataset, threshold)


def test_factors_by_hand():
    """Class 0: 4 of 5 images, 9 of 20 objects; 1: 1 of 5 and 10 of 20; 2: 1
    of 5 and 1 of 20."""
    dataset = Labelled(
        [[0] * 3, [0] * 3, [0] * 2, [0, *[1] * 10], [2]],
    )
    r = [
        max(1, math.sqrt(0.9 / math.sqrt(images * objects)))
        for images, objects in [(4 / 5, 9 / 20), (1 / 5, 0.5), (1 / 5, 1 / 20)]
    ]
    assert factors(dataset, 0.9) == pytest.approx(
        [r[0], r[0], r[0], r[1], r[2]]
    )
    # the paper's point: RFS takes classes 1 and 2 for equally rare
    stock = factors(dataset, 0.9, ClassBalancedDataset)
    assert stock[3] == stock[4] and r[1] < stock[3] < r[2]


def test_classes_of_one_object_an_image_are_repeated_as_by_rfs():
    images = [[0]] * 6 + [[1]] * 2 + [[2]]
    found = factors(Labelled(images), 0.5)
    expected = factors(Labelled(images), 0.5, ClassBalancedDataset)
    assert found == pytest.approx(expected)


def test_factors_of_a_data_set_are_those_of_the_paper(mini_lvis):
    """A literal version of equation 3, over every annotation."""
    dataset = lvis(mini_lvis)
    images, objects = Counter(), Counter()
    labels = [dataset.get_cat_ids(i) for i in range(len(dataset))]
    for found in labels:
        images.update(set(found))
        objects.update(found)
    of_class = {
        c: max(
            1,
            math.sqrt(
                0.02
                / math.sqrt(
                    images[c] / len(dataset) * objects[c] / objects.total()
                )
            ),
        )
        for c in images
    }
    expected = [max(of_class[c] for c in found) for found in labels]
    found = factors(dataset, 0.02)
    assert found == pytest.approx(expected)
    assert max(found) > min(found)
    index = index_classes(dataset)
    by_index = index.repeat_factors(0.02, instance_aware=True)
    np.testing.assert_allclose(by_index, expected)
    assert index.num_objects[index.num_images > 0].tolist() == [
        objects[c] for c in sorted(objects)
    ]


def test_images_are_repeated_in_order_and_rounded_up(mini_lvis):
    inner = lvis_config(mini_lvis, indices=12)
    config = dict(balanced(inner), oversample_thr=0.5)
    config['type'] = 'mmfrozen.InstanceAwareRepeatFactorDataset'
    wrapped = DATASETS.build(config)
    times = [math.ceil(r) for r in factors(wrapped.dataset, 0.5)]
    assert max(times) > 1
    assert wrapped.repeat_indices == [
        i for i, n in enumerate(times) for _ in range(n)
    ]
    assert len(wrapped) == sum(times)
    again = DATASETS.build(config)
    assert again.repeat_indices == wrapped.repeat_indices


def test_images_without_objects_stay_as_they_are():
    assert factors(Labelled([[], [0], []]), 1e-3) == [1, 1, 1]
    assert factors(Labelled([[], []]), 1e-3) == [1, 1]


def test_polygons_are_not_unpickled_for_it(mini_lvis, monkeypatch):
    dataset = lvis(mini_lvis, indices=None)

    def refuse(*args):
        raise AssertionError

    monkeypatch.setattr(type(dataset), 'get_data_info', refuse)
    assert len(factors(dataset, 0.1)) == len(dataset)
