"""Two real processes: one loads, both have the data, nothing stays behind."""

import json
import logging
import os
import pickle
import signal
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch.distributed
import torch.multiprocessing
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from torch.multiprocessing.spawn import ProcessExitedException

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.datasets import sharing
from mmfrozen.datasets.sharing import SharedBytes, load_once_per_machine, store

from ..transforms.datasets import balanced, lvis_config, mixed

#: Attributes that are of a process, or say how to load.
OWN = {'pipeline', '_share_annotations', '_labels'}


def configs(root):
    """Data sets by name, each on annotations of its own."""
    one = lvis_config(root, pipeline=[])
    return dict(
        lvis=one,
        later=dict(one, lazy_init=True),
        subset=dict(one, indices=[5, 1], test_mode=True),
        federated=dict(one, federated=True, filter_cfg=None),
        lists=dict(one, serialize_data=False),
        coco=dict(
            one,
            type='CheckedCocoDataset',
            ann_file='coco.json',
            metainfo=dict(classes=('airplane', 'zebra')),
        ),
        balanced=balanced(one),
        both=dict(type='ConcatDataset', datasets=[one, dict(one, indices=3)]),
        mixed=mixed(
            balanced(one),
            sources=dict(type='RareSources'),
            pipeline=[],
        ),
    )


def facts(dataset):
    """All that a data set knows, to be compared bit by bit."""
    wrapped = getattr(dataset, 'datasets', None)
    if wrapped is None and hasattr(dataset, 'dataset'):
        wrapped = [dataset.dataset]
    if wrapped is not None:
        order = getattr(dataset, 'repeat_indices', None)
        return [len(dataset), order, *(facts(one) for one in wrapped)]
    labels = [dataset.get_cat_ids(i) for i in range(len(dataset))]
    kept = {
        name: value.tobytes() if isinstance(value, np.ndarray) else value
        for name, value in vars(dataset).items()
        if name not in OWN
    }
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return dict(infos=infos, kept=kept, labels=labels)


def failure(make):
    """The error of a call, as a user sees it."""
    try:
        make()
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return 'none'


def forbidden(path):
    raise PermissionError(path)


class Stubborn(Exception):
    """Cannot be read back from a pickle."""

    def __init__(self, one, two):
        super().__init__(f'{one} {two}')


def stubborn():
    raise Stubborn('no', 'way')


def work(rank, folder, root):
    """Be one of two processes, and be killed at the end."""
    logging.disable(logging.WARNING)
    init_default_scope('mmdet')
    opened = []
    sys.addaudithook(
        lambda event, args: (event == 'open' and opened.append(str(args[0])))
    )
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )

    def annotation_files():
        found = [x for x in opened if x.startswith(str(root))]
        opened.clear()
        return len(found)

    found, opens = {}, {}
    for name, config in configs(root).items():
        opened.clear()
        found[name] = facts(DATASETS.build(config))
        opens[name] = annotation_files()
    one = lvis_config(root, pipeline=[])
    for name, options in dict(
        alone=dict(share_annotations=False), unlike=dict(indices=[rank])
    ).items():
        found[name] = facts(DATASETS.build(dict(one, **options)))
        opens[name] = annotation_files()
    opener = sharing._open
    sharing._open = forbidden if rank else opener
    found['forbidden'] = facts(DATASETS.build(one))
    opens['forbidden'] = annotation_files()
    sharing._open = opener
    found['no pickle'] = load_once_per_machine('x', lambda: lambda: 3)()
    if rank:  # nobody waits for it
        DATASETS.build(dict(one, share_annotations=False))
    for name, file in (('broken', 'broken.json'), ('missing', 'no.json')):
        config = dict(one, ann_file=file)
        found[name] = failure(lambda config=config: DATASETS.build(config))
    found['stubborn'] = failure(lambda: load_once_per_machine('x', stubborn))
    found['left'] = [
        len(list(Path(place).iterdir()))
        for place in (os.environ['TMPDIR'], '/dev/shm')
    ]
    held = DATASETS.build(one)
    assert isinstance(held.data_bytes, SharedBytes)
    (folder / f'{rank}.pkl').write_bytes(pickle.dumps((found, opens)))
    torch.distributed.barrier()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope='module')
def runs(mini_lvis, tmp_path_factory):
    """What both processes found, what one finds, and the folders."""
    folder = tmp_path_factory.mktemp('runs')
    root = folder / 'data'
    (root / 'annotations').mkdir(parents=True)
    text = (mini_lvis / 'annotations/lvis_v1_train.json').read_text()
    (root / 'annotations/lvis_v1_train.json').write_text(text)
    (root / 'broken.json').write_text(text[:-3000])
    content = json.loads(text)
    for image in content['images']:
        image['file_name'] = 'x.jpg'
    (root / 'coco.json').write_text(json.dumps(content))
    (folder / 'tmp').mkdir()
    shm = len(list(Path('/dev/shm').iterdir()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TMPDIR', str(folder / 'tmp'))
        patch.setenv('OMP_NUM_THREADS', '1')
        with pytest.raises(ProcessExitedException, match='SIGKILL'):
            torch.multiprocessing.spawn(work, (folder, root), nprocs=2)
    both = [
        pickle.loads((folder / f'{rank}.pkl').read_bytes()) for rank in (0, 1)
    ]
    init_default_scope('mmdet')
    alone = {
        name: facts(DATASETS.build(config))
        for name, config in configs(root).items()
    }
    left = list((folder / 'tmp').iterdir())
    return both, alone, root, (left, shm)


def test_both_processes_have_what_one_process_has(runs):
    (first, _), (second, _) = runs[0]
    for name, alone in runs[1].items():
        assert first[name] == alone, name
        assert second[name] == alone, name


def test_they_have_what_mmdetection_has(runs):
    both, _, root, _ = runs
    config = lvis_config(root, pipeline=[], type='LVISV1Dataset')
    del config['check_images']
    stock = facts(DATASETS.build(config))
    for found, _ in both:
        assert found['lvis']['infos'] == stock['infos']
        for name, value in stock['kept'].items():
            ours = found['lvis']['kept'][
                '_cat_ids' if name == 'cat_ids' else name
            ]
            assert ours == value, name


def test_only_the_first_process_opens_the_annotation_file(runs):
    (_, first), (_, second) = runs[0]
    for name in runs[1]:
        assert first[name] > 0, name
        # without serialised data there is nothing to share
        assert (second[name] > 0) == (name == 'lists'), name


def test_processes_load_by_themselves_what_the_other_does_not(runs):
    (_, first), (_, second) = runs[0]
    for name in ('alone', 'unlike', 'forbidden'):
        assert first[name] > 0 and second[name] > 0
    for rank, (found, _) in enumerate(runs[0]):
        assert found['no pickle'] == 3
        assert found['alone'] == found['forbidden'] == found['lvis']
        (info,) = found['unlike']['infos']
        assert info == dict(found['lvis']['infos'][rank], sample_idx=0)


def test_an_error_is_that_of_all_processes_in_one_line(runs):
    (first, _), (second, _) = runs[0]
    for name, text in dict(
        broken='ValueError: CheckedLVISV1Dataset.ann_file must be complete '
        'JSON',
        missing='FileNotFoundError: CheckedLVISV1Dataset.ann_file must be',
    ).items():
        assert first[name] == second[name]
        assert text in first[name]
        assert '\n' not in first[name].partition(text)[2]
    assert first['stubborn'] == 'Stubborn: no way'
    assert second['stubborn'] == 'RuntimeError: Stubborn: no way'


def test_nothing_stays_behind_in_a_run_and_after_it_was_killed(runs):
    both, _, _, (left, shm) = runs
    assert left == []
    for found, _ in both:
        assert found['left'] == [0, shm]
    assert len(list(Path('/dev/shm').iterdir())) == shm


def test_spawned_workers_are_given_the_file_and_not_its_content(runs):
    config = lvis_config(runs[2], pipeline=[])
    ours = DATASETS.build(config)
    size = len(ForkingPickler.dumps(ours))
    stock = DATASETS.build(dict(config, serialize_data=False))
    assert size < len(ForkingPickler.dumps(stock)) - len(ours.data_bytes) / 2
    worker = pickle.loads(ForkingPickler.dumps(ours))
    assert facts(worker) == facts(ours)
    assert not worker.data_bytes.flags.writeable


def test_slices_copies_and_pickles_stand_for_themselves():
    whole = store([b'ab', b'', b'cde'])
    for one, text in (
        (whole, b'abcde'),
        (whole[1:4], b'bcd'),
        (whole.copy(), b'abcde'),
    ):
        for dumps in (pickle.dumps, ForkingPickler.dumps):
            assert pickle.loads(dumps(one)).tobytes() == text
    shared = pickle.loads(ForkingPickler.dumps(whole))
    del whole
    assert shared.tobytes() == b'abcde'
