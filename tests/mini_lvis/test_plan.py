from collections import Counter

import numpy as np
import pytest

from mmfrozen.mini_lvis.annotations import frequency_of
from mmfrozen.mini_lvis.plan import flat_counts, long_tail_counts, plan_images


def test_default_training_split_has_all_three_frequency_groups():
    counts = long_tail_counts(140, 1000)
    groups = Counter(map(frequency_of, counts.tolist()))
    assert groups['r'] >= 50 and groups['c'] >= 40 and groups['f'] >= 10
    assert counts.min() >= 2


def test_default_val_split_shows_every_class_several_times():
    counts = flat_counts(140, 250)
    assert counts.min() >= 6 and counts.max() <= 3 * counts.min()


@pytest.mark.parametrize('num_images', [1, 7, 60, 1000])
@pytest.mark.parametrize('count', [long_tail_counts, flat_counts])
def test_counts_give_about_six_classes_an_image(count, num_images):
    counts = count(140, num_images)
    assert counts.min() >= 0 and counts.max() <= num_images
    assert counts.sum() / num_images == pytest.approx(6, abs=0.6)


def test_planned_images_of_a_class_are_exactly_its_count():
    counts = long_tail_counts(140, 80)
    plans = plan_images(np.random.default_rng(0), counts, 80)
    seen = Counter(index for item in plans for index in set(item.annotated))
    assert [seen[index] for index in range(140)] == counts.tolist()


def test_left_out_copies_also_have_an_annotated_one():
    counts = long_tail_counts(140, 500)
    plans = plan_images(np.random.default_rng(0), counts, 500)
    assert any(item.left_out for item in plans)
    assert all(set(item.left_out) <= set(item.annotated) for item in plans)
