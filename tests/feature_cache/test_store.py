"""Which views of a cache a data set may use."""

from types import SimpleNamespace

import pytest
import torch

from mmfrozen.feature_cache.shard import View, write_shard
from mmfrozen.feature_cache.store import FACTS, Facts, FeatureStore

GONE = 'a digest that no image has any more'


def make_store(folder, views):
    """A cache with views of one number."""
    facts = Facts(
        {'weights': 'x'}, 'fp32', 'fp32', 0, [3, 8, 8], [[1]], 'list'
    )
    FACTS.write(folder / FACTS.name, facts)
    for number, (image, view, source) in enumerate(views):
        write_shard(
            folder,
            facts.digest(),
            [View(image, view, source, {}, [0.0])],
            [[torch.full((1, 1), float(number))]],
            [b'\xc0'],
        )
    return FeatureStore(folder)


def values(store, digests, num_views=None):
    places = store.places(SimpleNamespace(digests=digests), num_views)
    return [
        store.features(row, torch.device('cpu'), torch.float32)[0]
        .flatten()
        .tolist()
        for row in places.tolist()
    ]


def test_views_are_found_by_the_image(tmp_path):
    views = [('a', 0, 'a'), ('b', 0, 'b'), ('b', 1, 'b'), ('a', 1, 'b')]
    store = make_store(tmp_path, views)
    assert values(store, ['b', 'a']) == [[1, 2], [0, 3]]
    assert values(store, ['b', 'a', 'b'], 1) == [[1], [0], [1]]


def test_all_that_every_image_has_is_used(tmp_path):
    store = make_store(tmp_path, [('a', 0, 'a'), ('b', 0, 'b'), ('a', 1, 'a')])
    assert values(store, ['a', 'b']) == [[0], [1]]
    assert values(store, ['a']) == [[0, 2]]


def test_a_view_that_shows_an_image_that_is_gone_is_missing(tmp_path):
    views = [('a', 0, 'a'), ('b', 0, GONE)]
    store = make_store(tmp_path, views)
    with pytest.raises(ValueError, match='1 views of each of 2.*fewer of 1'):
        values(store, ['a', 'b'])
    # computed anew beside it
    store = make_store(tmp_path, [*views, ('b', 0, 'a')])
    assert values(store, ['a', 'b']) == [[0], [2]]


def test_a_shard_of_another_cache_is_refused(tmp_path):
    make_store(tmp_path, [('a', 0, 'a')])
    view = View('a', 1, 'a', {}, [0.0])
    write_shard(tmp_path, 'other', [view], [[torch.zeros(1, 1)]], [b'x'])
    with pytest.raises(ValueError, match='a shard of another'):
        FeatureStore(tmp_path)
