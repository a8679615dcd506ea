"""The metrics beside MMDetection's, in runs, with bad input."""

import contextlib
import io
import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.evaluation import CocoMetric, LVISMetric
from mmdet.registry import METRICS
from mmengine.evaluator import Evaluator
from pycocotools import mask as mask_utils

from mmfrozen.evaluation import StratifiedCocoMetric, StratifiedLVISMetric
from mmfrozen.evaluation.bootstrap import image_weights
from mmfrozen.evaluation.match_detections import Matches
from mmfrozen.evaluation.strata import stratify

from .official import lvis_tables, make_case
from .samples import data_samples

OURS = {'lvis': StratifiedLVISMetric, 'coco': StratifiedCocoMetric}
#: MMDetection takes AP50 at the largest of these, so that 100 comes last.
STOCK_METRICS = {
    'lvis': LVISMetric,
    'coco': lambda **x: CocoMetric(proposal_nums=(1, 10, 100), **x),
}
both = pytest.mark.parametrize('protocol', ['lvis', 'coco'])


@pytest.fixture(autouse=True)
def quiet():
    """MMDetection logs much."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def messages(monkeypatch):
    """What the metrics log."""
    texts = []
    monkeypatch.setattr(
        'mmfrozen.evaluation.stratified_metric.print_log',
        lambda text, **_: texts.append(text),
    )
    return texts


def make(folder, seed=0, **shape):
    """A case, and its annotation file."""
    default = dict(
        images=6, categories=5, annotations=40, detections=120, levels=1000
    )
    content, results = make_case(
        np.random.default_rng(seed), **{**default, **shape}
    )
    for index, category in enumerate(content['categories']):
        category.update(image_count=5**index, instance_count=7**index)
    path = folder / f'{seed}.json'
    path.write_text(json.dumps(content))
    return content, results, str(path)


@pytest.fixture
def case(tmp_path):
    return make(tmp_path)


def run(metric, content, results, batch=1, samples=None):
    """Evaluate as a loop of MMDetection does."""
    evaluator = Evaluator(metric)
    names = tuple(x['name'] for x in content['categories'])
    evaluator.dataset_meta = dict(classes=names)
    samples = samples or list(data_samples(content, results))
    for begin in range(0, len(samples), batch):
        evaluator.process(samples[begin : begin + batch])
    metrics = evaluator.evaluate(len(content['images']))
    # NaN is not itself, None is
    return {k: None if v != v else v for k, v in metrics.items()}


def ours(protocol, ann_file, **options):
    options = dict(resamples=0, strata_file=False) | options
    return OURS[protocol](ann_file, **options)


@both
@settings(max_examples=5, deadline=None, database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_metrics_are_mmdetections_without_its_rounding(
    tmp_path_factory, protocol, seed
):
    content, results, path = make(tmp_path_factory.mktemp('case'), seed)
    # MMDetection sizes masks by their boxes, which makes empty ones count
    results = [x for x in results if mask_utils.area(x['segmentation'])]
    kinds = ['bbox', 'segm']
    with contextlib.redirect_stdout(io.StringIO()):
        stock = run(
            STOCK_METRICS[protocol](ann_file=path, metric=kinds),
            content,
            results,
        )
    mine = run(ours(protocol, path, metric=kinds), content, results)
    assert set(stock) <= set(mine)
    for name, value in stock.items():
        # for the same reason these differ
        if protocol == 'lvis' and name[-1] in 'sml' and 'segm' in name:
            continue
        expected = None if value == -1 else pytest.approx(value, abs=6e-4)
        assert mine[name] == expected, name
    key = {'lvis': 'lvis/bbox_AP', 'coco': 'coco/bbox_mAP'}[protocol]
    assert mine[key] != round(mine[key], 3)


def test_ap_fixed_is_that_of_the_best_detections_of_each_class(tmp_path):
    content, results, path = make(tmp_path, categories=9, levels=10**6)
    kept = []
    for category in content['categories']:
        own = [x for x in results if x['category_id'] == category['id']]
        kept += sorted(own, key=lambda x: -x['score'])[:8]
    assert len(kept) < len(results)
    *_, official = lvis_tables(content, kept, 'bbox', -1)
    metric = ours('lvis', path, dets_per_class=8, max_dets=5)
    found = run(metric, content, results)
    for name in ('AP', 'APr', 'APc', 'APf'):
        assert official[name] > 0
        assert found[f'lvis/bbox_{name}_fixed'] == pytest.approx(
            official[name], abs=1e-9
        )
    assert found['lvis/bbox_AP'] != found['lvis/bbox_AP_fixed']


@both
def test_streaming_gives_the_same_at_any_batch(case, protocol, monkeypatch):
    content, results, path = case
    whole = run(
        ours(protocol, path, metric=['bbox', 'segm']), content, results
    )
    for images in (1, 4):
        monkeypatch.setattr(
            'mmfrozen.evaluation.stratified_metric.BATCH_IMAGES', images
        )
        metric = ours(protocol, path, metric=['bbox', 'segm'])
        assert run(metric, content, results, batch=2) == whole
        # nothing is left for the next evaluation
        assert run(metric, content, results) == whole


def test_masks_of_matched_images_are_not_kept(case, monkeypatch):
    monkeypatch.setattr(
        'mmfrozen.evaluation.stratified_metric.BATCH_IMAGES', 2
    )
    content, results, path = case
    metric = ours('lvis', path, metric='segm')
    for number, sample in enumerate(data_samples(content, results), 1):
        metric.process(None, [sample])
        assert len(metric._waiting) == number % 2
    assert not metric.results


@both
def test_predictions_as_rle_give_what_tensors_give(case, protocol):
    content, results, path = case
    tensors = run(ours(protocol, path, metric='segm'), content, results)
    samples = list(data_samples(content, results))
    for sample in samples:
        own = [x for x in results if x['image_id'] == sample['img_id']]
        sample['pred_instances']['masks'] = [x['segmentation'] for x in own]
    metric = ours(protocol, path, metric='segm')
    assert run(metric, content, results, samples=samples) == tensors


def test_mask_scores_rank_the_masks(case):
    content, results, path = case
    samples = list(data_samples(content, results))
    for sample in samples:
        pred = sample['pred_instances']
        pred['mask_scores'] = pred['scores'].clone()
        pred['scores'] = pred['scores'].flip(0)
    with_own = run(
        ours('coco', path, metric=['bbox', 'segm']),
        content, results, samples=samples,
    )  # fmt: skip
    plain = run(ours('coco', path, metric=['bbox', 'segm']), content, results)
    assert with_own['coco/segm_mAP'] == plain['coco/segm_mAP']
    assert with_own['coco/bbox_mAP'] != plain['coco/bbox_mAP']


@both
def test_strata_and_matches_are_written(tmp_path, protocol):
    content, results, path = make(
        tmp_path, images=30, annotations=200, detections=300
    )
    metric = OURS[protocol](
        path,
        metric=['bbox', 'segm'],
        resamples=20,
        confidence=0.5,
        seed=3,
        strata_file=str(tmp_path / 'new' / 'strata.json'),
    )
    metrics = run(metric, content, results)
    record = json.loads((tmp_path / 'new' / 'strata.json').read_text())
    assert record['metrics'] == metrics
    assert [x['iou_type'] for x in record['records']] == ['bbox', 'segm']
    for part in record['records']:
        frequency = [x for x in part['strata'] if x['by'] == 'frequency']
        if protocol == 'lvis':
            for x in frequency:
                name = f'lvis/{part["iou_type"]}_AP{x["name"]}'
                assert x['ap'] == metrics[name]
        matches = Matches.load(
            tmp_path / 'new' / f'matches.{part["iou_type"]}.npz'
        )
        weights = image_weights(30, 20, seed=3)
        sizes = stratify(matches, [], weights, confidence=0.5)[:3]
        assert [x['ap_low'] for x in part['strata'] if x['by'] == 'size'] == [
            x.ap_low for x in sizes
        ]
        assert None not in {x.ap_low for x in sizes}
        name = {'lvis': 'AP', 'coco': 'mAP'}[protocol]
        assert np.nanmean(matches.ap_per_class()) == pytest.approx(
            metrics[f'{protocol}/{part["iou_type"]}_{name}']
        )
        assert part['counts_from'].startswith('image_count and instance')


@both
def test_empty_result_is_nan_and_not_0(case, tmp_path, protocol, messages):
    content, _, path = case
    metric = ours(
        protocol, path, resamples=5, strata_file=str(tmp_path / 'strata.json')
    )
    metrics = run(metric, content, [])
    assert metrics and set(metrics.values()) == {None}
    record = json.loads((tmp_path / 'strata.json').read_text())
    assert set(record['metrics'].values()) == {None}
    assert {x['ap'] for x in record['records'][0]['strata']} == {None}
    assert 'found nothing in 6 images' in ' '.join(messages)


def test_images_that_were_not_evaluated_are_said_to_be_missed(case, messages):
    content, results, path = case
    samples = list(data_samples(content, results))[:4]
    run(ours('coco', path), content, results, samples=samples)
    assert '4 of the 6 images' in ' '.join(messages)


@both
def test_results_are_written_as_mmdetection_writes_them(
    case, tmp_path, protocol
):
    content, results, path = case
    options = dict(metric=['bbox', 'segm'], format_only=True)
    files = {}
    for name, metric in (
        ('ours', OURS[protocol]),
        ('stock', STOCK_METRICS[protocol]),
    ):
        prefix = str(tmp_path / name)
        made = metric(ann_file=path, outfile_prefix=prefix, **options)
        if name == 'stock' and protocol == 'lvis':
            assert run(made, content, results) == {}
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                assert run(made, content, results) == {}
        files[name] = [
            json.loads((tmp_path / f'{name}.{kind}.json').read_text())
            for kind in ('bbox', 'segm')
        ]
    assert files['ours'] == files['stock']
    again = ours(protocol, path, outfile_prefix=str(tmp_path / 'both'))
    plain = run(ours(protocol, path), content, results)
    assert run(again, content, results) == plain
    assert (tmp_path / 'both.bbox.json').exists()


def test_results_of_classes_that_the_file_lacks_are_not_written(
    case, tmp_path
):
    content, results, path = case
    metric = ours('coco', path, outfile_prefix=str(tmp_path / 'r'))
    names = [x['name'] for x in content['categories']]
    lacking = ('zebu', *names[1:])
    metric.dataset_meta = dict(classes=lacking, labels_follow_classes=True)
    samples = data_samples(content, results)
    metric.process({}, list(samples))
    metric.evaluate(len(content['images']))
    written = json.loads((tmp_path / 'r.bbox.json').read_text())
    first = content['categories'][0]['id']
    kept = [x for x in results if x['category_id'] != first]
    assert 0 < len(written) == len(kept) < len(results)
    assert {x['category_id'] for x in written} == {
        x['category_id'] for x in kept
    }


def test_strata_go_into_a_folder_that_is_named(case, tmp_path):
    content, results, path = case
    run(ours('coco', path, strata_file=str(tmp_path)), content, results)
    assert (tmp_path / 'strata.json').is_file()
    assert (tmp_path / 'matches.bbox.npz').is_file()


def test_metric_items_choose_among_the_metrics(case):
    content, results, path = case
    metric = ours('lvis', path, metric_items=['APr', 'AP'])
    assert list(run(metric, content, results)) == [
        'lvis/bbox_APr', 'lvis/bbox_AP'
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"got 'AR@300' \(did you mean"):
        ours('coco', path, metric_items=['mAP', 'AR@300'])
    metric = ours(
        'coco', path, proposal_nums=(300, 1), metric_items=['AR@300']
    )
    assert list(run(metric, content, results)) == ['coco/bbox_AR@300']


def test_each_class_is_reported_when_asked_for(case):
    content, results, path = case
    metrics = run(ours('coco', path, classwise=True), content, results)
    names = [x['name'] for x in content['categories']]
    values = [metrics[f'coco/bbox_{name}_precision'] for name in names]
    assert np.mean([x for x in values if x is not None]) == pytest.approx(
        metrics['coco/bbox_mAP']
    )


def test_labels_of_some_classes_are_those_of_mmdetection(case):
    content, results, path = case
    fewer = dict(content, categories=content['categories'][1:4])
    kept = {x['id'] for x in fewer['categories']}
    chosen = [x for x in results if x['category_id'] in kept]
    mine = run(ours('coco', path), fewer, chosen)
    with contextlib.redirect_stdout(io.StringIO()):
        stock = run(STOCK_METRICS['coco'](ann_file=path), fewer, chosen)
    for name, value in stock.items():
        expected = None if value == -1 else pytest.approx(value, abs=6e-4)
        assert mine[name] == expected, name


def test_labels_by_sorted_categories_are_those_of_mmdetection(case):
    content, results, path = case
    categories = sorted(content['categories'], key=lambda x: x['id'])
    assert categories != content['categories']
    content = dict(content, categories=categories)
    options = dict(ann_file=path, sort_categories=True)
    mine = run(ours('coco', **options), content, results)
    with contextlib.redirect_stdout(io.StringIO()):
        stock = run(STOCK_METRICS['coco'](**options), content, results)
    for name, value in stock.items():
        assert mine[name] == pytest.approx(value, abs=6e-4), name


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(metirc='bbox'), r"got 'metirc' \(did you mean 'metric'\?\)"),
        (dict(dets_per_clas=1), r"did you mean 'dets_per_class'\?"),
        (dict(iou_thrs=[0.5]), 'must be without iou_thrs'),
        (dict(metric='box'), r"got 'box' \(did you mean 'bbox'\?\)"),
        (dict(metric='proposal_fast'), "with MMDetection's LVISMetric"),
        (dict(metric=[]), r'got \[\]'),
        (dict(resamples=-1), 'resamples must be a whole number'),
        (dict(max_dets=0), 'max_dets must be a whole number'),
        (dict(dets_per_class=1.5), 'dets_per_class must be a whole number'),
        (dict(confidence=95), 'confidence must be between 0 and 1'),
        (dict(format_only=True), 'outfile_prefix must name'),
        (dict(train_ann_file='absent.json'), 'train_ann_file must be an ex'),
        (dict(ann_file=None), 'ann_file must be the annotation file'),
        (dict(ann_file='absent.json'), 'ann_file must be an existing'),
    ],
)
def test_wrong_option_is_refused_at_construction(case, options, message):
    *_, path = case
    options = dict(type='StratifiedLVISMetric', ann_file=path) | options
    with pytest.raises(Exception, match=message) as error:
        METRICS.build(options)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('numbers', [(), (0,), (1.5,)])
def test_numbers_of_proposals_are_whole_and_positive(case, numbers):
    *_, path = case
    with pytest.raises(ValueError, match='proposal_nums must be a whole'):
        ours('coco', path, proposal_nums=numbers)


def test_options_of_mmdetection_that_change_nothing_are_taken(case):
    *_, path = case
    OURS['coco'](path, iou_thrs=None, file_client_args=None, use_mp_eval=False)


def test_training_file_of_other_categories_is_refused_at_once(case, tmp_path):
    content, _, path = case
    content['categories'][0]['name'] = 'another'
    train = tmp_path / 'train.json'
    train.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="got 'another' instead of"):
        ours('coco', path, train_ann_file=str(train))


def test_classes_that_the_file_lacks_are_refused_before_the_loop(case):
    *_, path = case
    for protocol, message in (
        ('coco', "the first is 'cow'"),
        ('lvis', "the first is 'cow'"),
    ):
        metric = ours(protocol, path)
        with pytest.raises(ValueError, match=message):
            metric.dataset_meta = dict(classes=('cow',))


@both
def test_scores_that_are_not_finite_stop_the_evaluation(case, protocol):
    content, results, path = case
    samples = list(data_samples(content, results))
    samples[2]['pred_instances']['scores'][0] = torch.nan
    with pytest.raises(ValueError, match='Scores must be finite, got nan'):
        run(ours(protocol, path), content, results, samples=samples)


@both
def test_images_of_another_set_stop_the_evaluation(case, protocol):
    content, results, path = case
    samples = list(data_samples(content, results))
    samples[0]['img_id'] = 4711
    with pytest.raises(ValueError, match='the first is 4711'):
        run(ours(protocol, path), content, results, samples=samples)
