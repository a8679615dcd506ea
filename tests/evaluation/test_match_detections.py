"""The engine beside the official packages, and what it must keep."""

import json
import logging
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmfrozen  # noqa: F401  (lets lvis run on this numpy)
from mmfrozen.evaluation.detections import DetectionArrays
from mmfrozen.evaluation.ground_truth import GroundTruth
from mmfrozen.evaluation.match_detections import AREAS, Matcher, Matches, match

from .official import (
    coco_tables,
    lvis_tables,
    make_case,
    per_category,
    results_for,
)

TABLES = {'coco': coco_tables, 'lvis': lvis_tables}
KINDS = ('bbox', 'segm')
seeds = st.integers(0, 2**32 - 1)
shapes = st.fixed_dictionaries(
    dict(
        images=st.integers(1, 4),
        categories=st.integers(1, 4),
        annotations=st.integers(0, 14),
        detections=st.integers(1, 40),
        levels=st.sampled_from([2, 5, 1000]),
    )
)
quick = settings(max_examples=25, deadline=None, database=None)


@pytest.fixture(autouse=True)
def quiet():
    """lvis warns about each list of results."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def case(seed=0, **shape):
    """A case of middling size."""
    default = dict(
        images=5, categories=4, annotations=40, detections=120, levels=1000
    )
    return make_case(np.random.default_rng(seed), **{**default, **shape})


def same(values, expected):
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-9)


def summary(matches):
    """All that a caller can ask for."""
    return np.stack(
        [matches.ap_per_class(area=area) for area in AREAS]
        + [matches.recall_per_class(area) for area in AREAS]
        + [matches.ap_per_class(iou=0.5)]
    )


@pytest.mark.parametrize('iou_type', KINDS)
@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
@settings(max_examples=150, deadline=None, database=None)
@given(seed=seeds, shape=shapes, max_dets=st.integers(1, 30))
def test_engine_equals_the_official_package(
    protocol, iou_type, seed, shape, max_dets
):
    content, results = make_case(np.random.default_rng(seed), **shape)
    precision, recall, _ = TABLES[protocol](
        content, results, iou_type, max_dets
    )
    matches = match(
        content,
        results_for(results, iou_type),
        iou_type=iou_type,
        protocol=protocol,
        max_dets=max_dets,
    )
    for row, area in enumerate(AREAS):
        same(matches.ap_per_class(area=area), per_category(precision, area))
        expected = np.where(recall[..., row] < 0, np.nan, recall[..., row])
        same(matches.recall_per_class(area), expected.mean(axis=0))
    for index, iou in ((0, 0.5), (5, 0.75), (9, 0.95)):
        same(
            matches.ap_per_class(iou=iou),
            per_category(precision, 'all', index),
        )


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
@pytest.mark.parametrize('first', [0, 4])
def test_of_equal_overlaps_the_later_annotation_is_taken(protocol, first):
    """Which of the two is left decides whether the next detection matches."""
    content, _ = case(images=1, categories=1, annotations=2)
    image, category = content['images'][0], content['categories'][0]
    here = dict(image_id=image['id'], category_id=category['id'])
    image['not_exhaustive_category_ids'] = []
    for annotation, left in zip(
        content['annotations'], (first, 4 - first), strict=True
    ):
        annotation.update(
            **here, bbox=[left, 0, 10, 10], area=100, iscrowd=0, ignore=0
        )
    results = [
        dict(**here, bbox=[2, 0, 10, 10], score=0.9),
        dict(**here, bbox=[0, 0, 10, 10], score=0.8),
    ]
    precision, *_ = TABLES[protocol](content, results, 'bbox', 100)
    matches = match(content, results, iou_type='bbox', protocol=protocol)
    same(matches.ap_per_class(iou=0.5), per_category(precision, 'all', 0))
    found = matches.recall_per_class()
    same(found, 0.7 if first == 0 else 0.5)


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
def test_many_detections_of_one_image_equal_the_official_package(protocol):
    content, results = case(images=1, categories=1, detections=700)
    for max_dets in (100, 300):
        precision, *_ = TABLES[protocol](content, results, 'bbox', max_dets)
        matches = match(
            content,
            results,
            iou_type='bbox',
            protocol=protocol,
            max_dets=max_dets,
        )
        same(matches.ap_per_class(), per_category(precision, 'all'))


def test_recalls_are_reached_as_the_official_package_compares_them():
    """0.35 is below the 35th of its recalls, 35 x 0.01."""
    content, _ = case(images=1, categories=1, annotations=1)
    (image,), (category,) = content['images'], content['categories']
    here = dict(image_id=image['id'], category_id=category['id'])
    content['annotations'] = [
        dict(**here, id=i + 1, bbox=[i, 0, 1, 1], area=1, iscrowd=0)
        for i in range(100)
    ]
    results = [
        dict(**here, bbox=[i, at, 1, 1], score=1 - i / 200)
        for i in range(100)
        for at in (0, 9)[: 1 + (i % 3 == 0)]  # also beside some
    ]
    precision, *_ = coco_tables(content, results, 'bbox', 1000)
    matches = match(
        content, results, iou_type='bbox', protocol='coco', max_dets=1000
    )
    same(matches.ap_per_class(), per_category(precision, 'all'))


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
@quick
@given(seed=seeds, shape=shapes, max_dets=st.integers(1, 10))
def test_limited_matches_equal_those_matched_with_fewer_detections(
    protocol, seed, shape, max_dets
):
    content, results = make_case(np.random.default_rng(seed), **shape)
    options = dict(iou_type='bbox', protocol=protocol)
    many = match(content, results, max_dets=-1, **options)
    few = match(content, results, max_dets=max_dets, **options)
    limited = many.limited(max_dets)
    same(summary(limited), summary(few))
    assert limited.max_dets == few.max_dets == max_dets


@quick
@given(seed=seeds, shape=shapes, top=st.integers(1, 15))
def test_fixed_ap_equals_the_official_package_after_its_authors_recipe(
    seed, shape, top
):
    """As evaluate_ap_fixed.py of achalddave/large-vocab-devil."""
    shape['levels'] = 10**6  # equal scores at the cut have no order
    content, results = make_case(np.random.default_rng(seed), **shape)
    kept = []
    for category in content['categories']:
        own = [x for x in results if x['category_id'] == category['id']]
        kept += sorted(own, key=lambda x: x['score'], reverse=True)[:top]
    precision, *_ = lvis_tables(content, kept, 'bbox', -1)
    matches = match(
        content, results, iou_type='bbox', protocol='lvis', max_dets=-1
    )
    same(
        matches.limited_per_category(top).ap_per_class(),
        per_category(precision, 'all'),
    )


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
@quick
@given(seed=seeds, shape=shapes, data=st.data())
def test_parts_of_any_process_join_to_the_whole(protocol, seed, shape, data):
    content, results = make_case(np.random.default_rng(seed), **shape)
    gt = GroundTruth.from_dict(content)
    matcher = Matcher(gt, iou_type='bbox', protocol=protocol, max_dets=8)
    ids = gt.image_ids.tolist()
    owners = data.draw(
        st.lists(st.integers(0, 2), min_size=len(ids), max_size=len(ids))
    )
    shards = [
        [i for i, owner in zip(ids, owners, strict=True) if owner == shard]
        for shard in range(3)
    ]
    shards[2] += ids[:1]  # what a sampler pads
    parts = [
        matcher.match_batch(
            DetectionArrays.from_dicts(
                [x for x in results if x['image_id'] in shard]
            ),
            shard,
        )
        for shard in shards
    ]
    whole = match(
        content, results, iou_type='bbox', protocol=protocol, max_dets=8
    )
    joined = matcher.join(parts)
    assert summary(joined).tobytes() == summary(whole).tobytes()
    assert joined.is_evaluated.all()
    assert len(joined.scores) == len(whole.scores)


def test_file_gives_what_its_content_gives(tmp_path):
    content, results = case()
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(content))
    options = dict(iou_type='segm', protocol='lvis')
    read = match(GroundTruth.read(path), results, **options)
    given_ = match(content, results, **options)
    same(summary(read), summary(given_))


def test_saved_matches_are_loaded_as_they_were(tmp_path):
    content, results = case()
    matches = match(content, results, iou_type='segm', protocol='lvis')
    matches.save(tmp_path / 'matches.npz')
    loaded = Matches.load(tmp_path / 'matches.npz')
    assert summary(loaded).tobytes() == summary(matches).tobytes()
    assert loaded.category_names == matches.category_names
    assert (loaded.iou_type, loaded.max_dets) == ('segm', 300)
    assert loaded.annotations == GroundTruth.from_dict(content).digest
    (tmp_path / 'other.npz').write_bytes(b'PK nothing')
    with pytest.raises(ValueError, match='Matches must be a .npz file'):
        Matches.load(tmp_path / 'other.npz')


def test_matches_of_earlier_releases_are_read(tmp_path):
    content, results = case()
    matches = match(content, results, iou_type='bbox', protocol='coco')
    old = {x.name: getattr(matches, x.name) for x in fields(matches)}
    del old['annotations']
    np.savez(tmp_path / 'matches.npz', **old)
    loaded = Matches.load(tmp_path / 'matches.npz')
    assert loaded.annotations == ''
    assert summary(loaded).tobytes() == summary(matches).tobytes()


def test_digest_tells_annotations_apart_and_not_their_files(tmp_path):
    content, _ = case()
    one = GroundTruth.from_dict(content).digest
    path = tmp_path / 'elsewhere.json'
    path.write_text(json.dumps(content, indent=2))
    assert GroundTruth.read(path).digest == one
    ids = [x['id'] for x in content['categories']][1:3]
    assert GroundTruth.from_dict(content).only(ids).digest != one
    content['annotations'][3]['bbox'][0] += 1
    assert GroundTruth.from_dict(content).digest != one


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
@pytest.mark.parametrize('iou_type', KINDS)
def test_fewer_categories_are_judged_as_in_a_file_of_them(protocol, iou_type):
    content, results = case()
    ids = [x['id'] for x in content['categories']][1:3]
    fewer = {
        **content,
        **{
            key: [x for x in content[key] if x[name] in ids]
            for key, name in (
                ('categories', 'id'),
                ('annotations', 'category_id'),
            )
        },
    }
    results = [x for x in results if x['category_id'] in ids]
    options = dict(iou_type=iou_type, protocol=protocol)
    gt = GroundTruth.from_dict(content).only(ids)
    expected = match(fewer, results, **options)
    matches = match(gt, results, **options)
    same(summary(matches), summary(expected))
    assert matches.category_names == expected.category_names
    names = [gt.category_names[i] for i in gt.file_order]
    assert names == [x['name'] for x in fewer['categories']]


def test_no_detection_at_all_is_empty_and_not_an_error():
    content, _ = case()
    for iou_type in KINDS:
        matches = match(content, [], iou_type=iou_type, protocol='lvis')
        assert matches.is_empty
        assert np.nanmax(matches.ap_per_class()) == 0
        assert matches.num_instances().sum() > 0


def test_no_annotation_at_all_has_no_ap():
    content, results = case(annotations=0)
    matches = match(content, results, iou_type='bbox', protocol='coco')
    assert np.isnan(matches.ap_per_class()).all()
    assert np.isnan(matches.recall_per_class()).all()


def test_annotation_with_id_0_counts():
    """pycocotools takes what matched it for unmatched."""
    content, _ = case(annotations=1)
    annotation = content['annotations'][0]
    annotation.update(id=0, iscrowd=0)
    result = {
        k: annotation[k] for k in ('image_id', 'category_id', 'bbox')
    } | dict(score=1.0)
    matches = match(content, [result], iou_type='bbox', protocol='coco')
    assert np.nanmean(matches.ap_per_class()) == pytest.approx(1)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(image_id=1000), 'got 1 other images, the first is 1000'),
        (dict(category_id=1000), 'got 1 others, the first is 1000'),
        (dict(score=float('nan')), 'Scores must be finite, got nan in 1 of'),
        (dict(score=float('inf')), 'Scores must be finite, got inf'),
        (dict(bbox=[0, 0, float('nan'), 1]), 'Boxes must be finite'),
        (dict(score='high'), 'Each result must be a dict'),
        (dict(bbox=[1, 2]), 'Each result must be a dict'),
        (dict(image_id='a.jpg'), 'Each result must be a dict'),
    ],
)
def test_result_that_does_not_fit_is_refused_in_a_line(change, message):
    content, results = case()
    results = results_for(results, 'bbox')
    results[7] |= change
    with pytest.raises(ValueError, match=message) as error:
        match(content, results, iou_type='bbox', protocol='lvis')
    assert '\n' not in str(error.value)


def test_result_without_a_key_is_named_by_its_place():
    content, results = case()
    del results[3]['score']
    with pytest.raises(ValueError, match='one without score at position 3'):
        match(content, results, iou_type='bbox', protocol='coco')


def test_masks_must_be_there_and_have_the_size_of_their_image():
    content, results = case()
    with pytest.raises(ValueError, match='must have detections with masks'):
        match(
            content,
            results_for(results, 'bbox'),
            iou_type='segm',
            protocol='coco',
        )
    results[0]['segmentation']['size'] = [64, 256]
    with pytest.raises(ValueError, match=r'got \[64, 256\] instead of'):
        match(content, results, iou_type='segm', protocol='coco')


def test_ground_truth_that_does_not_fit_is_refused_in_a_line(tmp_path):
    content, results = case()
    options = dict(iou_type='bbox', protocol='lvis')

    def refused(message, **change):
        with pytest.raises(ValueError, match=message) as error:
            match({**content, **change}, results, **options)
        assert '\n' not in str(error.value)

    first, *rest = content['annotations']
    refused("Categories must have 'frequency'", categories=[
        {k: v for k, v in x.items() if k != 'frequency'}
        for x in content['categories']
    ])  # fmt: skip
    refused('must have unique ids', annotations=[first, *rest, first])
    refused('image_id 1000', annotations=[{**first, 'image_id': 1000}, *rest])
    refused(
        'category_id 1000', annotations=[{**first, 'category_id': 1000}, *rest]
    )
    refused(
        'square pixels',
        annotations=[{**first, 'area': None}, *rest],
    )
    refused('non-negative integer', images=[{'id': 'a'}])
    for text in ('[]', '{"images": [', ''):
        path = tmp_path / 'broken.json'
        path.write_text(text)
        with pytest.raises(ValueError, match='must be an annotation file'):
            GroundTruth.read(path)
    with pytest.raises(FileNotFoundError, match='ann_file must be'):
        GroundTruth.read(tmp_path / 'absent.json')


def test_annotation_without_a_mask_is_named_when_masks_are_compared():
    content, results = case()
    for annotation in content['annotations']:
        annotation['segmentation'] = []
    match(content, results, iou_type='bbox', protocol='coco')
    with pytest.raises(ValueError, match='must have polygons or an RLE'):
        match(content, results, iou_type='segm', protocol='coco')


def test_polygons_are_drawn_as_pycocotools_draws_them():
    content, results = case(images=2)
    for annotation in content['annotations']:
        x, y, w, h = annotation['bbox']
        annotation['segmentation'] = [
            [x, y, x + w, y, x + w / 2, y + h],
            [x, y + h / 2, x + w, y + h / 2, x, y + h],
        ]
    precision, *_ = coco_tables(content, results, 'segm', 100)
    matches = match(content, results, iou_type='segm', protocol='coco')
    same(matches.ap_per_class(), per_category(precision, 'all'))
