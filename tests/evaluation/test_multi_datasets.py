"""Several validation sets, whose images share ids, in one loop."""

import json
import logging
import os

import pytest
import torch.distributed
import torch.multiprocessing
from mmdet.registry import DATASETS, EVALUATOR
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import DumpResults, Evaluator
from PIL import Image

import mmfrozen  # noqa: F401  (registers)
from tests.tiny import build, tiny_config

#: Images and the order of classes: the same ids mean other images.
SETS = {'a': (3, ('cat', 'dog')), 'b': (4, ('dog', 'cat'))}


def write(folder, name):
    """A data set whose objects lie elsewhere than those of the others."""
    number, classes = SETS[name]
    shift = 10 * list(SETS).index(name)
    (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for image in range(1, number + 1):
        path = folder / name / f'{image}.jpg'
        Image.new('RGB', (64, 48)).save(path)
        images.append(dict(id=image, file_name=path.name, width=64, height=48))
        for category, x in ((1, shift), (2, shift + 25)):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=category,
                    bbox=[x, image, 15, 20],
                    area=300,
                    iscrowd=0,
                )
            )
    categories = [dict(id=i, name=x) for i, x in enumerate(classes, 1)]
    content = dict(
        images=images, annotations=annotations, categories=categories
    )
    (folder / name / 'ann.json').write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    for name in SETS:
        write(tmp_path, name)
    return tmp_path


def parts(folder, same_classes=True):
    """Configs of the data sets."""
    return [
        dict(
            type='CheckedCocoDataset',
            data_root=str(folder / name),
            data_prefix=dict(img=''),
            ann_file='ann.json',
            metainfo=dict(classes=('cat', 'dog') if same_classes else classes),
            test_mode=True,
            pipeline=[],
        )
        for name, (_, classes) in SETS.items()
    ]


def evaluator(folder, kind='StratifiedMultiDatasetsEvaluator', **options):
    metrics = [
        dict(
            type='mmfrozen.StratifiedCocoMetric',
            ann_file=str(folder / name / 'ann.json'),
            resamples=0,
            strata_file=str(folder / 'strata' / name / 'strata.json'),
        )
        for name in SETS
    ]
    return EVALUATOR.build(
        {
            'type': kind,
            'metrics': metrics,
            'dataset_prefixes': list(SETS),
            **options,
        }
    )


def perfect(data, shard=None):
    """Detections equal to the annotations, one batch an image."""
    for index in range(len(data)) if shard is None else shard:
        info = data[index]
        found = info['instances']
        yield [
            dict(
                img_id=info['img_id'],
                pred_instances=dict(
                    bboxes=torch.tensor([x['bbox'] for x in found]).float(),
                    labels=torch.tensor([x['bbox_label'] for x in found]),
                    scores=torch.ones(len(found)),
                ),
            )
        ]


@pytest.mark.parametrize('same_classes', [True, False])
def test_each_data_set_is_judged_by_its_own_images_and_labels(
    folder, same_classes
):
    data = DATASETS.build(
        dict(type='ConcatDataset', datasets=parts(folder, same_classes))
    )
    judge = evaluator(folder)
    judge.dataset_meta = data.metainfo
    for _ in range(2):  # as validations follow one another in training
        for samples in perfect(data):
            judge.process(samples)
        found = judge.evaluate(len(data))
        assert found['a/coco/bbox_mAP'] == pytest.approx(1)
        assert found['b/coco/bbox_mAP'] == pytest.approx(1)
    for name, (number, _) in SETS.items():
        path = folder / 'strata' / name / 'strata.json'
        record = json.loads(path.read_text())
        assert record['ann_file'] == str(folder / name / 'ann.json')
        assert record['records'][0]['num_evaluated_images'] == number
        assert record['metrics']['coco/bbox_mAP'] == pytest.approx(1)


def test_keys_in_which_data_sets_differ_are_named(folder, monkeypatch):
    texts = []
    monkeypatch.setattr(
        'mmfrozen.evaluation.multi_datasets.print_log',
        lambda text, **_: texts.append(text),
    )
    for same_classes in (True, False):
        data = dict(type='ConcatDataset', datasets=parts(folder, same_classes))
        evaluator(folder).dataset_meta = DATASETS.build(data).metainfo
    assert len(texts) == 1 and "ignore_keys=['classes']" in texts[0]


def test_mmdetections_metrics_and_whole_results_take_part(folder, tmp_path):
    data = DATASETS.build(
        dict(type='ConcatDataset', datasets=parts(folder, False))
    )
    judge = evaluator(
        folder,
        metrics=[
            dict(
                type='mmdet.CocoMetric',
                ann_file=str(folder / name / 'ann.json'),
            )
            for name in SETS
        ],
    )
    # as --out of tools/test.py does
    judge.metrics.append(DumpResults(str(tmp_path / 'results.pkl')))
    judge.dataset_meta = data.metainfo
    for samples in perfect(data):
        samples[0]['ori_shape'] = (48, 64)
        judge.process(samples)
    found = judge.evaluate(len(data))
    assert found['a/coco/bbox_mAP'] == found['b/coco/bbox_mAP'] == 1
    assert (tmp_path / 'results.pkl').is_file()


def work(rank, folder):
    """Be one of two processes; the sampler pads 7 images to 8."""
    logging.disable(logging.WARNING)
    os.chdir(folder)  # MMDetection exchanges files in .dist_test
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    data = DATASETS.build(dict(type='ConcatDataset', datasets=parts(folder)))
    judge = evaluator(folder)
    judge.dataset_meta = data.metainfo
    shard = list(DefaultSampler(range(len(data)), shuffle=False))
    for samples in perfect(data, shard):
        judge.process(samples)
    found = judge.evaluate(len(data))
    (folder / f'{rank}.json').write_text(json.dumps([len(shard), found]))
    torch.distributed.destroy_process_group()


def test_two_processes_judge_as_one(folder):
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    for rank in (0, 1):
        number, found = json.loads((folder / f'{rank}.json').read_text())
        assert number == 4
        assert found['a/coco/bbox_mAP'] == pytest.approx(1)
        assert found['b/coco/bbox_mAP'] == pytest.approx(1)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(dataset_prefixes=['a']), 'one metric for each of the 1'),
        (dict(dataset_prefixes=['a', 'a']), 'must differ'),
        (dict(dataset_prefixes=['a', '../b']), "folders, got '../b'"),
        (dict(dataset_prefixes=['a', 2]), 'folders, got 2'),
    ],
)
def test_wrong_options_are_refused_at_construction(folder, options, words):
    with pytest.raises(ValueError, match=words):
        evaluator(folder, **options)


def test_metrics_that_would_write_one_file_are_refused(folder):
    metric = dict(
        type='mmfrozen.StratifiedCocoMetric',
        ann_file=str(folder / 'a' / 'ann.json'),
        strata_file=str(folder / 'strata.json'),
    )
    with pytest.raises(ValueError, match='strata_file in folders'):
        evaluator(folder, metrics=[metric, metric])


def test_data_sets_of_another_number_are_refused_before_the_loop(folder):
    judge = evaluator(folder)
    one = parts(folder)[0]
    three = dict(type='ConcatDataset', datasets=[one, one, one])
    with pytest.raises(ValueError, match='2 data sets .* got 3'):
        judge.dataset_meta = DATASETS.build(three).metainfo
    with pytest.raises(ValueError, match='got another data set'):
        judge.dataset_meta = DATASETS.build(one).metainfo


@pytest.mark.parametrize('same_classes', [True, False])
def test_mmdetections_evaluator_is_refused_before_the_loop(
    folder, same_classes
):
    data = DATASETS.build(
        dict(type='ConcatDataset', datasets=parts(folder, same_classes))
    )
    judge = evaluator(folder, 'MultiDatasetsEvaluator')
    with pytest.raises(ValueError, match='StratifiedMultiDatasetsEvaluator'):
        judge.dataset_meta = data.metainfo


def test_results_that_were_not_kept_are_not_averaged(folder):
    """MMDetection's evaluator, where a count of images fits by chance."""
    judge = evaluator(folder, 'MultiDatasetsEvaluator')
    judge._dataset_meta = dict(cumulative_sizes=[3, 7])
    with pytest.raises(TypeError, match='StratifiedMultiDatasetsEvaluator'):
        judge.evaluate(7)


def test_ids_that_come_twice_are_refused_without_a_sampler_that_pads(folder):
    data = DATASETS.build(dict(type='ConcatDataset', datasets=parts(folder)))
    judge = Evaluator(evaluator(folder).metrics[0])
    judge.dataset_meta = dict(classes=('cat', 'dog'))
    for samples in perfect(data, [0, 1, 2, 3, 4]):
        judge.process(samples)
    with pytest.raises(ValueError, match='2 whose ids had come before'):
        judge.evaluate(5)


def test_run_writes_strata_of_each_data_set_to_a_folder_of_its_own(
    tmp_path, mini_lvis, resnet18
):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18)
    dataset = cfg.val_dataloader.dataset
    dataset.indices = 8
    cfg.val_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[dataset, dict(dataset, indices=3)]
    )
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    metric = dict(
        type='StratifiedLVISMetric',
        ann_file=str(mini_lvis / 'annotations/lvis_v1_val.json'),
        resamples=0,
    )
    cfg.val_evaluator = dict(
        type='StratifiedMultiDatasetsEvaluator',
        metrics=[metric, metric],
        dataset_prefixes=['all', 'some'],
    )
    metrics = build(cfg).val()
    for name, number in (('all', 8), ('some', 3)):
        assert f'{name}/lvis/bbox_AP' in metrics
        path = tmp_path / 'run' / name / 'strata.json'
        record = json.loads(path.read_text())['records'][0]
        assert record['num_evaluated_images'] == number
        assert (path.parent / 'matches.bbox.npz').is_file()
    assert not (tmp_path / 'run' / 'strata.json').exists()
