"""Where pasted objects come from."""

import numpy as np
import pytest
from mmdet.registry import DATASETS, TASK_UTILS
from mmengine.dataset import ClassBalancedDataset

from mmfrozen.transforms import SimpleCopyPaste
from mmfrozen.transforms.class_index import distinct, index_classes

from .datasets import balanced, lvis, lvis_config


def labels_of(dataset, place):
    return {
        one['bbox_label']
        for one in dataset.get_data_info(place)['instances']
        if not one['ignore_flag']
    }


class Listed:
    """Annotations alone: labels of each image."""

    metainfo = dict(classes=('a', 'b'))

    def __init__(self, labels, crowds=()):
        self.infos = [
            dict(
                instances=[
                    dict(bbox_label=i, ignore_flag=int(i in crowds))
                    for i in found
                ]
            )
            for found in labels
        ]

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]


def build(kind, dataset, **options):
    sources = TASK_UTILS.build(dict(type=kind, **options))
    sources.prepare(dataset)
    return sources


@pytest.mark.parametrize('wrap', [lambda c: c, balanced])
def test_the_index_knows_every_image_of_every_class(mini_lvis, wrap):
    dataset = DATASETS.build(wrap(lvis_config(mini_lvis)))
    index = index_classes(dataset)
    assert len(index.places) == 24
    assert len(index.num_images) == 1203
    for row, place in enumerate(index.places):
        found = {
            label
            for label in np.flatnonzero(index.num_images)
            if row in index.images_of(label)
        }
        assert found == labels_of(dataset, place)


def test_repeated_and_joined_data_sets_are_indexed_once(mini_lvis):
    part = lvis_config(mini_lvis, indices=6)
    repeated = dict(type='RepeatDataset', times=3, dataset=part)
    joined = DATASETS.build(
        dict(type='ConcatDataset', datasets=[part, balanced(part)])
    )
    assert len(distinct(DATASETS.build(repeated))) == 6
    assert len(distinct(joined)) == 12
    for place, base, number in distinct(joined):
        info = base.get_data_info(number)
        assert joined.get_data_info(place)['img_id'] == info['img_id']


def test_repeat_factors_are_those_of_mmdetection(mini_lvis):
    dataset = lvis(mini_lvis)
    stock = ClassBalancedDataset(dataset, oversample_thr=0.3)
    expected = stock._get_repeat_factors(dataset, 0.3)
    factors = index_classes(dataset).repeat_factors(0.3)
    np.testing.assert_allclose(factors, expected)
    assert factors.max() > factors.min() >= 1


def frequencies(sources, dataset, draws=4000):
    np.random.seed(0)
    found = [sources.draw(dataset) for _ in range(draws)]
    return found


def test_images_are_drawn_by_repeat_factor():
    dataset = Listed([[0]] * 20 + [[1]])
    sources = build('RepeatFactorSources', dataset, oversample_thr=0.5)
    drawn = [place for (place,), _ in frequencies(sources, dataset)]
    share = np.bincount(drawn, minlength=21) / len(drawn)
    factor = (0.5 * 21) ** 0.5
    expected = np.array([1] * 20 + [factor]) / (20 + factor)
    np.testing.assert_allclose(share, expected, atol=0.02)


@pytest.mark.parametrize(('power', 'rare'), [(0, 1 / 2), (1, 16 / 17)])
def test_classes_are_drawn_by_rarity_with_an_image_that_has_them(power, rare):
    dataset = Listed([[0]] * 15 + [[0, 1]])
    sources = build('RareSources', dataset, power=power)
    drawn = frequencies(sources, dataset)
    for (place,), label in drawn:
        assert label in labels_of(dataset, place)
    assert np.mean([label for _, label in drawn]) == pytest.approx(
        rare, abs=0.02
    )


def test_uniform_draws_stay_inside_the_data_set():
    """MMDetection's asks now and then for the image after the last one."""
    sources = TASK_UTILS.build(dict(type='UniformSources'))
    drawn = {sources.draw([0, 0, 0])[0][0] for _ in range(200)}
    assert drawn == {0, 1, 2}


def test_the_class_that_was_drawn_is_pasted(mini_lvis):
    dataset = lvis(
        mini_lvis,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadCompactAnnotations', with_mask=True),
        ],
    )
    transform = SimpleCopyPaste(dict(type='RareSources'), max_num_pasted=2)
    transform.prepare(dataset)
    empty = {**dataset[0], 'gt_bboxes_labels': np.zeros(0, np.int64)}
    empty['gt_bboxes'] = empty['gt_bboxes'][:0]
    empty['gt_masks'] = empty['gt_masks'][np.zeros(0, int)]
    empty['gt_ignore_flags'] = np.zeros(0, bool)
    for seed in range(24):
        np.random.seed(seed)
        (place,) = transform.get_indexes(dataset)
        result = transform({**empty, 'mix_results': [dataset[place]]})
        assert transform._wanted in result['gt_bboxes_labels']
        assert len(result['gt_bboxes_labels']) == 1


@pytest.mark.parametrize(
    ('kind', 'options', 'words'),
    [
        ('RareSources', dict(classes=['aerosol']), ['did you mean']),
        ('RareSources', dict(classes=['zebra'] * 2), ["got 'zebra'"]),
        ('RareSources', dict(classes=[]), ['classes', 'got []']),
        ('RareSources', dict(max_class_images=0), ['max_class_images', '1']),
        ('RareSources', dict(power=-1), ['power', '-1']),
        ('RareSources', dict(max_class_images='few'), ["got 'few'"]),
        ('RareSources', dict(classes='zebra'), ["got 'zebra'"]),
        ('ObjectBank', dict(max_bytes='1 GB'), ["got '1 GB'"]),
        ('RepeatFactorSources', dict(oversample_thr=2), ['oversample_thr']),
        ('RepeatFactorSources', dict(oversample_thr=True), ['True']),
        ('ObjectBank', dict(max_class_images=0), ['max_class_images']),
        ('ObjectBank', dict(classes=['zebra']), ["got 'zebra'"]),
        ('ObjectBank', dict(max_bytes=10), ['max_bytes', '10']),
        ('ObjectBank', dict(flip_prob=3), ['flip_prob', '3']),
        ('ObjectBank', dict(num_objects=(4, 1)), ['num_objects', '(4, 1)']),
        ('ObjectBank', dict(ratio_range=(0, 1)), ['ratio_range', '(0, 1)']),
        ('ObjectBank', dict(max_side=1), ['max_side']),
        ('UniformSources', dict(power=1), ["'power'", 'has none']),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused(mini_lvis, kind, options, words):
    dataset = lvis(mini_lvis)
    present = index_classes(dataset).num_images
    assert present[dataset.metainfo['classes'].index('zebra')] == 0
    with pytest.raises((ValueError, TypeError)) as caught:
        build(kind, dataset, **options)
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word.lower() in message.lower(), message


def test_crowds_are_no_objects_of_their_class():
    dataset = Listed([[0], [0, 1]], crowds={1})
    assert index_classes(dataset).num_images.tolist() == [2, 0]


@pytest.mark.parametrize('kind', ['RareSources', 'ObjectBank'])
def test_data_without_objects_are_no_sources(kind):
    with pytest.raises(ValueError, match='images have objects, got .none'):
        build(kind, Listed([[], []]))
