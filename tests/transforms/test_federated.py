"""What is known of an image's classes after pasting, LVIS's way."""

import json

import numpy as np
import pytest

from mmfrozen.transforms import SimpleCopyPaste
from mmfrozen.transforms.federated import update

from .datasets import lvis
from .test_copy_paste import image_of, over, square


def state(negative, partial, annotated=(), **pasting):
    results = dict(
        neg_labels=list(negative),
        not_exhaustive_labels=list(partial),
        gt_bboxes_labels=np.array(annotated, np.int64),
    )
    update(results, **pasting)
    return results['neg_labels'], results['not_exhaustive_labels']


@pytest.mark.parametrize(
    ('before', 'pasting', 'after'),
    [
        # 1. looked for and not there, then pasted: there, and all annotated
        (dict(negative=[4, 5], partial=[]), dict(pasted=[4]), ([5], [])),
        # 2. annotated: exhaustive or not, as it was
        (
            dict(negative=[], partial=[], annotated=[4]),
            dict(pasted=[4]),
            ([], []),
        ),
        (
            dict(negative=[], partial=[4], annotated=[4]),
            dict(pasted=[4]),
            ([], [4]),
        ),
        # 3. unknown: others of it may be there without an annotation
        (dict(negative=[5], partial=[]), dict(pasted=[4]), ([5], [4])),
        # 4. seen inside what is pasted, without an annotation
        (
            dict(negative=[4], partial=[], annotated=[6]),
            dict(pasted=[6], overlapping_labels=[4]),
            ([], [4]),
        ),
        # 5. half hidden, no longer annotated
        (
            dict(negative=[], partial=[], annotated=[4, 6]),
            dict(pasted=[6], half_hidden=[4]),
            ([], [4]),
        ),
    ],
)
def test_the_rule(before, pasting, after):
    assert state(**before, **pasting) == after


def test_objects_that_a_crop_cut_away_were_looked_for():
    results = dict(neg_labels=[], not_exhaustive_labels=[])
    results['instances'] = [dict(bbox_label=4)]
    update(results, pasted=[4])
    assert results['not_exhaustive_labels'] == []


def test_images_that_know_nothing_stay_as_they_are():
    results = dict(gt_bboxes_labels=np.array([1]))
    update(results, pasted=[2], overlapping_labels=[3])
    assert list(results) == ['gt_bboxes_labels']


def test_pasting_updates_what_is_known():
    """A person (1) with a tie (2) covers half of a dog (0)."""
    destination = image_of(square(0, 0, 20, 0))
    destination.update(neg_labels=[1, 2, 9], not_exhaustive_labels=[])
    source = image_of(square(2, 0, 40, 1), square(10, 10, 4, 2))
    source['gt_ignore_flags'][1] = True  # is not pasted itself
    result = over(destination, source)
    assert result['gt_bboxes_labels'].tolist() == [1]
    assert result['neg_labels'] == [9]
    assert result['not_exhaustive_labels'] == [0, 2]
    assert destination['neg_labels'] == [1, 2, 9]


def test_what_is_hidden_completely_is_not_half_hidden():
    destination = image_of(square(0, 0, 20, 0))
    destination.update(neg_labels=[1], not_exhaustive_labels=[])
    destination['mix_results'] = [image_of(square(0, 0, 30, 1))]
    result = SimpleCopyPaste(selected=False)(destination)
    assert result['not_exhaustive_labels'] == []


def test_lvis_data_carry_what_is_known(mini_lvis):
    plain = lvis(mini_lvis)
    assert 'neg_labels' not in plain.get_data_info(0)
    dataset = lvis(mini_lvis, federated=True)
    path = mini_lvis / 'annotations/lvis_v1_train.json'
    images = {x['id']: x for x in json.loads(path.read_text())['images']}
    infos = [dataset.get_data_info(i) for i in range(24)]
    for kind in ('neg', 'not_exhaustive'):
        found = [info[f'{kind}_labels'] for info in infos]
        assert found == [
            sorted(
                i - 1 for i in images[info['img_id']][f'{kind}_category_ids']
            )
            for info in infos
        ]
        assert any(found)
