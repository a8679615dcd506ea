"""Result files of MMDetection and of others."""

import json
import pickle

import numpy as np
import pytest
import torch
from mmdet.evaluation import DumpDetResults
from mmengine.evaluator import Evaluator
from pycocotools import mask as mask_utils

from mmfrozen.categories import ABSENT
from mmfrozen.evaluation.detections import DetectionArrays
from mmfrozen.evaluation.ground_truth import GroundTruth
from mmfrozen.evaluation.match_detections import Matcher, match
from mmfrozen.evaluation.result_files import (
    _regroup_by_image,
    label_ids,
    read_results,
)

from .official import make_case, results_for
from .samples import data_samples


@pytest.fixture
def case():
    return make_case(
        np.random.default_rng(2),
        images=5,
        categories=4,
        annotations=30,
        detections=60,
        levels=1000,
    )


def rows(detections):
    """Detections as they can be compared."""
    return [
        (int(i), int(c), float(s), *b)
        for i, c, s, b in zip(
            detections.image_ids,
            detections.category_ids,
            detections.scores,
            detections.boxes.tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize('indent', [None, 2])
@pytest.mark.parametrize('piece_bytes', [50, 700, 1 << 24])
def test_json_is_read_in_pieces_of_any_size(
    case, tmp_path, monkeypatch, indent, piece_bytes
):
    monkeypatch.setattr(
        'mmfrozen.evaluation.result_files.PIECE_BYTES', piece_bytes
    )
    content, results = case
    gt = GroundTruth.from_dict(content)
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(results, indent=indent))
    read = read_results(path, gt)
    assert rows(read) == [
        (x['image_id'], x['category_id'], x['score'], *x['bbox'])
        for x in results
    ]
    rles = read.masks.rles(np.arange(len(results)))
    assert [x['counts'].decode() for x in rles] == [
        x['segmentation']['counts'] for x in results
    ]


@pytest.mark.parametrize('order', ['by image', 'any'])
@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
@pytest.mark.parametrize('only', [True, False])
def test_file_matched_in_pieces_gives_what_its_content_gives(
    case, tmp_path, monkeypatch, order, protocol, iou_type, only
):
    monkeypatch.setattr('mmfrozen.evaluation.result_files.PIECE_BYTES', 400)
    monkeypatch.setattr('mmfrozen.evaluation.match_detections.BATCH', 7)
    content, results = case
    if only:  # else boxes and masks in each result
        results = results_for(results, iou_type)
    if order == 'by image':
        results.sort(key=lambda x: -x['image_id'])
    gt = GroundTruth.from_dict(content)
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(results))
    options = dict(iou_type=iou_type, protocol=protocol, max_dets=6)
    given = match(gt, results, **options)
    parts = []
    matcher_part = Matcher.match_batch
    monkeypatch.setattr(
        Matcher,
        'match_batch',
        lambda self, found, *seen: (
            parts.append(len(found)) or matcher_part(self, found, *seen)
        ),
    )
    for read in (read_results(path, gt), path):
        matches = match(gt, read, **options)
        assert matches.ap_per_class().tobytes() == (
            given.ap_per_class().tobytes()
        )
        for name in ('images', 'scores', 'ranks', 'matched', 'ignored'):
            np.testing.assert_array_equal(
                getattr(matches, name), getattr(given, name)
            )
        assert len(matches.unjudged_scores) == len(given.unjudged_scores)
    # all at once only where images come again
    assert (max(parts[2:]) == len(results)) == (order == 'any')


def dump(content, results, path):
    """Write results as MMDetection's tools/test.py does."""
    evaluator = Evaluator(DumpDetResults(str(path)))
    for sample in data_samples(content, results):
        evaluator.process([sample])
    evaluator.evaluate(5)
    return path


def test_pickle_is_matched_as_a_file(case, tmp_path):
    content, results = case
    gt = GroundTruth.from_dict(content)
    path = dump(content, results, tmp_path / 'results.pkl')
    names = [x['name'] for x in content['categories']]
    options = dict(iou_type='segm', protocol='coco')
    found = match(gt, path, ids=label_ids(gt, names), **options).ap_per_class()
    np.testing.assert_allclose(
        found, match(gt, results, **options).ap_per_class()
    )


def test_bad_result_is_named_by_its_place_in_the_file(
    case, tmp_path, monkeypatch
):
    monkeypatch.setattr('mmfrozen.evaluation.result_files.PIECE_BYTES', 300)
    content, results = case
    results = results_for(results, 'bbox')
    del results[47]['score']
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(results))
    gt = GroundTruth.from_dict(content)
    with pytest.raises(ValueError, match='without score at position 47'):
        match(gt, path, iou_type='bbox', protocol='coco')
    results[47] |= dict(score=0.5, image_id=4711)
    path.write_text(json.dumps(results))
    with pytest.raises(ValueError, match='^Results must be for the images'):
        match(gt, path, iou_type='bbox', protocol='coco')


def test_image_with_more_results_than_a_piece_stays_whole(case):
    one, two = ([{'image_id': i}] * 3 for i in (1, 2))
    chunks = [one, one, [*one, *two], two, [], one]
    parts = [part for part in _regroup_by_image(chunks) if part]
    assert parts == [one * 3, two * 2, one]


def test_pickle_of_mmdetection_gives_what_its_json_gives(case, tmp_path):
    content, results = case
    gt = GroundTruth.from_dict(content)
    path = dump(content, results, tmp_path / 'results.pkl')
    read = read_results(path, gt)
    options = dict(iou_type='segm', protocol='coco')
    np.testing.assert_allclose(
        match(gt, read, **options).ap_per_class(),
        match(gt, results, **options).ap_per_class(),
    )


def test_masks_that_are_not_needed_are_left_out(case):
    content, results = case
    first = content['images'][0]['id']
    read = DetectionArrays.from_dicts(
        results, is_needed=lambda images, categories: images == first
    )
    rles = read.masks.rles(np.arange(len(results)))
    for result, rle in zip(results, rles, strict=True):
        assert bool(rle['counts']) == (result['image_id'] == first)


def test_labels_follow_the_classes_or_the_order_of_the_file(case):
    content, _ = case
    gt = GroundTruth.from_dict(content)
    ids = [x['id'] for x in content['categories']]
    names = [x['name'] for x in content['categories']]
    assert label_ids(gt, None).tolist() == ids
    assert label_ids(gt, names[1:]).tolist() == ids[1:]
    with pytest.raises(ValueError, match='must mean the same'):
        label_ids(gt, names[:0:-1])
    by_class = label_ids(gt, names[:0:-1], by_class=True)
    assert by_class.tolist() == ids[:0:-1]
    with pytest.raises(ValueError, match="the first is 'cow'"):
        label_ids(gt, [*names, 'cow'])
    by_class = label_ids(gt, ['cow', *names], by_class=True)
    assert by_class.tolist() == [ABSENT, *ids]


class Hostile:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return print, ('hostile',)


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('a.pkl', pickle.dumps([Hostile()])),
        ('a.pkl', b''),
        ('a.pkl', pickle.dumps([{'img_id': 1}])),
        ('a.pkl', pickle.dumps({'img_id': 1})),
        ('a.pkl', pickle.dumps([1])),
        ('a.json', b''),
        ('a.json', b'{}'),
        ('a.json', b'[1, 2]'),
        ('a.json', b'[{"image_id": 1'),
        ('a.json', b'[{"image_id": 1}]'),
        ('a.json', b'\xff\xfe'),
    ],
)
def test_other_files_are_refused_in_a_line(
    case, tmp_path, capsys, name, content
):
    gt = GroundTruth.from_dict(case[0])
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match='(Results|results.pkl) must') as e:
        read_results(path, gt)
    assert '\n' not in str(e.value)
    assert 'hostile' not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match='must be an existing file'):
        read_results(tmp_path / 'absent.json', gt)


def test_label_without_a_category_is_refused(case, tmp_path):
    content, results = case
    gt = GroundTruth.from_dict(content)
    path = tmp_path / 'results.pkl'
    samples = list(data_samples(content, results))
    for sample in samples:
        pred = sample['pred_instances']
        pred['labels'] = torch.full_like(pred['labels'], 4)
        pred['masks'] = [
            mask_utils.encode(np.asfortranarray(x, np.uint8))
            for x in pred['masks'].numpy()
        ]
    path.write_bytes(pickle.dumps(samples))
    with pytest.raises(ValueError, match='Labels must be 0 to 3, got 4'):
        read_results(path, gt)
