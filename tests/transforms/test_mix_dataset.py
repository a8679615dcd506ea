"""The data set of mixed images: what goes in, and the same for any workers."""

import logging
import pickle
import warnings
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.engine.hooks import PipelineSwitchHook
from mmdet.registry import DATASETS
from mmengine.runner import Runner

from mmfrozen.seeds import NumberedIndex, seeded

from .datasets import LOAD, SIZE, balanced, lvis_config, mixed


def loader(dataset, num_workers, seed=5):
    config = dict(
        batch_size=3,
        num_workers=num_workers,
        sampler=dict(
            type='NumberedSampler',
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        dataset=dataset,
    )
    return Runner.build_dataloader(config, seed=seed)


def digest(batches):
    return [
        (
            image.sum().item(),
            sample.img_id,
            sample.gt_instances.labels.tolist(),
            np.asarray(sample.gt_instances.bboxes.tensor).tolist(),
            sample.gt_instances.masks.areas.tolist(),
        )
        for batch in batches
        for image, sample in zip(
            batch['inputs'], batch['data_samples'], strict=True
        )
    ]


@pytest.mark.parametrize(
    'sources',
    [
        dict(type='UniformSources'),
        dict(type='RepeatFactorSources', oversample_thr=0.2),
        dict(type='RareSources'),
        dict(type='ObjectBank', max_bytes=2**20),
    ],
    ids=lambda sources: sources['type'],
)
def test_samples_are_the_same_for_any_number_of_workers(mini_lvis, sources):
    warnings.simplefilter('ignore')
    dataset = DATASETS.build(
        mixed(balanced(lvis_config(mini_lvis, indices=12)), sources=sources)
    )
    expected = digest(loader(dataset, 0))
    assert digest(loader(dataset, 2)) == expected
    assert digest(loader(dataset, 3)) == expected


def test_batches_by_aspect_ratio_are_numbered_too(mini_lvis):
    dataset = DATASETS.build(mixed(lvis_config(mini_lvis, indices=6)))
    config = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(
            type='NumberedSampler',
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        batch_sampler=dict(type='AspectRatioBatchSampler'),
        dataset=dataset,
    )
    batches = list(Runner.build_dataloader(config, seed=5).batch_sampler)
    assert [i.key for batch in batches for i in batch] == [
        (5, 0, number) for number in range(6)
    ]


def test_samples_change_with_seed_and_epoch(mini_lvis):
    dataset = DATASETS.build(mixed(lvis_config(mini_lvis, indices=6)))
    expected = sorted(digest(loader(dataset, 0)))
    assert sorted(digest(loader(dataset, 0))) == expected
    assert sorted(digest(loader(dataset, 0, seed=6))) != expected
    other = loader(dataset, 0)
    other.sampler.set_epoch(1)
    assert sorted(digest(other)) != expected


@pytest.mark.parametrize('kind', ['RareSources', 'ObjectBank'])
def test_samples_are_the_same_in_spawned_workers(mini_lvis, kind):
    """Which get the data set through a pickle."""
    dataset = DATASETS.build(
        mixed(lvis_config(mini_lvis, indices=6), sources=dict(type=kind))
    )
    sent = pickle.loads(ForkingPickler.dumps(dataset))
    assert digest(loader(sent, 0)) == digest(loader(dataset, 0))


def test_loading_leaves_the_generators_as_they_were(mini_lvis):
    dataset = DATASETS.build(mixed(lvis_config(mini_lvis)))
    np.random.seed(3)
    torch.manual_seed(3)
    expected = np.random.rand(), torch.rand(1).item()
    np.random.seed(3)
    torch.manual_seed(3)
    dataset[NumberedIndex(2, (1, 0, 7))]
    assert (np.random.rand(), torch.rand(1).item()) == expected


def test_numbered_indices_are_seeds_and_plain_ones_are_not():
    drawn = []
    for index in (
        NumberedIndex(0, (1, 0, 7)),
        NumberedIndex(5, (1, 0, 7)),
        NumberedIndex(0, (1, 1, 7)),
        NumberedIndex(0, (1, 0, 8)),
        NumberedIndex(0, (2, 0, 7)),
        0,
    ):
        with seeded(index):
            drawn.append(np.random.rand())
    assert drawn[0] == drawn[1] and len(set(drawn)) == 5


@pytest.mark.parametrize('kind', ['CopyPasteDataset', 'MultiImageMixDataset'])
def test_it_works_in_our_data_set_and_in_mmdetections(mini_lvis, kind):
    inner = balanced(lvis_config(mini_lvis))
    for sources in (None, dict(type='RareSources')):
        dataset = DATASETS.build(mixed(inner, kind, sources=sources))
        for i in range(5):
            sample = dataset[i]
            assert sample['inputs'].shape == (3, 64, 96)
            assert sample['inputs'].dtype == torch.uint8
            found = sample['data_samples'].gt_instances
            assert found.masks.masks.shape == (len(found), 64, 96)


def test_both_data_sets_give_the_same_at_the_same_draw(mini_lvis):
    found = []
    for kind in ('CopyPasteDataset', 'MultiImageMixDataset'):
        dataset = DATASETS.build(mixed(lvis_config(mini_lvis), kind))
        np.random.seed(4)
        sample = dataset[3]
        found.append((sample['inputs'], sample['data_samples'].gt_instances))
    assert torch.equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(
        found[0][1].masks.masks, found[1][1].masks.masks
    )


def test_the_mmdetections_own_transforms_work_in_it(mini_lvis):
    boxes_only = [LOAD[0], dict(type='LoadAnnotations', with_bbox=True)]
    dataset = DATASETS.build(
        mixed(
            lvis_config(mini_lvis, pipeline=boxes_only),
            pipeline=[
                dict(type='Mosaic', img_scale=SIZE, pad_val=0),
                dict(type='PackDetInputs'),
            ],
        )
    )
    assert dataset[0]['inputs'].shape == (3, 128, 192)
    dataset.update_skip_type_keys(['Mosaic'])
    assert dataset[0]['inputs'].shape == (3, 96, 128)


def test_concatenated_data_sets_are_sources(mini_lvis):
    part = lvis_config(mini_lvis, indices=5)
    dataset = DATASETS.build(
        mixed(
            dict(type='ConcatDataset', datasets=[part, part]),
            sources=dict(type='RareSources'),
        )
    )
    assert len(dataset) == 10
    assert dataset[9]['inputs'].shape == (3, 64, 96)


def test_a_pipeline_that_gives_nothing_is_named(mini_lvis):
    class Nothing:
        def __call__(self, results):
            return None

    dataset = DATASETS.build(mixed(lvis_config(mini_lvis)))
    dataset.pipeline[0] = Nothing()
    with pytest.raises(RuntimeError, match='got None 15 times for item 3'):
        dataset[3]


def test_loading_without_masks_is_refused_before_training(mini_lvis):
    pipeline = [LOAD[0], dict(type='LoadAnnotations', with_bbox=True)]
    inner = lvis_config(mini_lvis, pipeline=pipeline)
    with pytest.raises(ValueError, match='with_mask=True') as error:
        DATASETS.build(mixed(inner))
    assert '\n' not in str(error.value)
    DATASETS.build(mixed(inner, paste_by_box=True))


def test_misspelt_options_are_named(mini_lvis):
    with pytest.raises(TypeError, match="did you mean 'pipeline'"):
        DATASETS.build(dict(type='CopyPasteDataset', pipelin=[], dataset={}))


def test_a_hook_may_switch_to_another_pipeline(mini_lvis):
    """MMDetection's, for the last epochs without mixing."""
    dataset = DATASETS.build(mixed(lvis_config(mini_lvis, indices=6)))
    hook = PipelineSwitchHook(1, [dict(type='PackDetInputs')])
    runner = SimpleNamespace(
        epoch=1,
        logger=logging.getLogger(),
        train_dataloader=SimpleNamespace(
            dataset=dataset, persistent_workers=False
        ),
    )
    before = len(dataset.pipeline)
    hook.before_train_epoch(runner)
    assert before == 2
    for index in range(3):
        np.random.seed(index)
        objects = dataset.dataset[index]['gt_bboxes_labels']
        np.random.seed(index)
        sample = dataset[index]['data_samples']
        assert len(sample.gt_instances) == len(objects), 'none is pasted'


def test_skipped_types_that_are_not_there_are_named(mini_lvis):
    config = mixed(lvis_config(mini_lvis, indices=6))
    with pytest.raises(ValueError, match="'CopyPaste'.*SimpleCopyPaste"):
        DATASETS.build({**config, 'skip_type_keys': ('CopyPaste',)})
    DATASETS.build({**config, 'skip_type_keys': ('SimpleCopyPaste',)})
