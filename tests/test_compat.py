"""Real runs, real checkpoint files, a real LVIS evaluation."""

import json
import os
import pickle
import uuid
import zipfile
from collections import OrderedDict

import lvis.eval
import mmengine.dist.utils as mmengine_dist
import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from lvis import LVIS, LVISEval, LVISResults
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import CheckpointLoader, Runner
from mmengine.utils import digit_version
from torch import nn
from torch.utils.data import Dataset

from mmfrozen import compat

compat.apply()
needs_new_torch = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6.0'),
    reason='torch reads every file, hostile ones too',
)


class Points(Dataset):
    METAINFO = ConfigDict(classes=('a', 'b'), seen=ConfigDict(a=3, b=1))

    def __init__(self):
        self.metainfo = dict(
            self.METAINFO, palette=np.array([[1, 2, 3], [4, 5, 6]], 'u1')
        )

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.full((2,), float(index))


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        loss = self.layer(torch.stack(list(inputs))).square().mean()
        return dict(loss=loss) if mode == 'loss' else loss


def build_runner(folder, max_iters, **options):
    torch.manual_seed(0)
    return Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Points(),
            batch_size=1,
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
            dict(type='MultiStepLR', milestones=[2, 5], by_epoch=False, end=9),
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False),
        ),
        experiment_name=uuid.uuid4().hex,  # runs of one name share a history
        cfg=dict(work_dir=str(folder)),
        **options,
    )


@pytest.fixture
def stopped(tmp_path):
    """A run that ended after 3 iterations, and its checkpoint."""
    runner = build_runner(tmp_path / 'run', 3)
    runner.train()
    return runner, tmp_path / 'run' / 'iter_3.pth'


def edit_pickle(path, edit):
    """Rewrite the pickle within a checkpoint, byte for byte."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, 'w') as file:
        for name, data in parts.items():
            is_pickle = name.endswith('data.pkl')
            file.writestr(name, edit(data) if is_pickle else data)


def name_as_numpy_1(data):
    """numpy 1.26 writes these bytes where numpy 2 writes `_core`."""
    old = data.replace(b'cnumpy._core.', b'cnumpy.core.')
    assert b'cnumpy.core.multiarray\n_reconstruct' in old
    return old


def read_scalars(runner):
    scalars = runner.message_hub.log_scalars.items()
    return {name: [x.tolist() for x in log.data] for name, log in scalars}


@pytest.mark.parametrize('age', ['new', 'old'])
def test_stopped_run_resumes_with_its_history_and_ends_like_an_unbroken_one(
    stopped, tmp_path, age
):
    first, path = stopped
    if age == 'old':
        edit_pickle(path, name_as_numpy_1)
    resumed = build_runner(tmp_path / 'run', 6, resume=True)
    resumed.load_or_resume = lambda load=resumed.load_or_resume: (
        load(),
        history.update(read_scalars(resumed)),
    )
    history = {}
    resumed.train()
    assert {'train/loss', 'train/lr'} <= set(history)
    for name in ('train/loss', 'train/lr'):
        assert history[name] == read_scalars(first)[name]

    unbroken = build_runner(tmp_path / 'unbroken', 6)
    unbroken.train()
    for name in ('train/loss', 'train/lr'):
        assert read_scalars(resumed)[name] == read_scalars(unbroken)[name]
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


@needs_new_torch
def test_without_the_gap_closed_upstream_still_refuses_its_own_checkpoint(
    stopped,
):
    """If this fails, `resume_on_new_torch` has expired."""
    loader = mmengine_checkpoint.load_from_local
    with pytest.raises(pickle.UnpicklingError, match='Weights only'):
        loader(str(stopped[1]), 'cpu')


def test_restored_values_are_of_the_types_that_were_saved(stopped):
    first, path = stopped
    loaded = CheckpointLoader.load_checkpoint(str(path))
    log = loaded['message_hub']['log_scalars']['train/loss']
    assert type(log) is HistoryBuffer
    assert type(log.data[0]) is np.ndarray
    assert log.mean() == first.message_hub.get_scalar('train/loss').mean()
    log.update(7.0)
    assert log.current() == 7.0
    assert len(log.data[0]) == 4
    meta = loaded['meta']['dataset_meta']
    assert type(meta['seen']) is ConfigDict
    assert meta['seen'] == dict(a=3, b=1)
    assert type(meta['palette']) is np.ndarray
    assert meta['palette'].tolist() == [[1, 2, 3], [4, 5, 6]]
    torch.save(loaded, path)  # what was restored can be saved and read again
    again = CheckpointLoader.load_checkpoint(str(path))
    assert again['message_hub']['log_scalars']['train/loss'].current() == 7.0


@pytest.mark.parametrize(
    'value',
    [
        np.float64(0.25),
        np.int32(-3),
        np.bool_(True),
        np.zeros(0),
        np.array(2.5),
        np.arange(6, dtype='>i4').reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(['rare', 'common']),
        np.array([1 + 2j]),
    ],
    ids=repr,
)
def test_numpy_values_survive_bit_for_bit(tmp_path, value):
    path = str(tmp_path / 'x.pth')
    torch.save(OrderedDict(x=[(value, 'beside')]), path)
    ((got, beside),) = CheckpointLoader.load_checkpoint(path)['x']
    assert type(got) is type(value)
    assert got.dtype == value.dtype and got.shape == value.shape
    assert got.tobytes() == value.tobytes()
    assert np.asarray(got).flags.writeable and beside == 'beside'


def largest_step(buffer):
    return np.abs(np.diff(buffer.data[0])).max()


@pytest.fixture
def own_statistics():
    HistoryBuffer.register_statistics(largest_step)
    yield
    del HistoryBuffer._statistics_methods['largest_step']


def test_registered_statistics_survive_a_resume(own_statistics, tmp_path):
    path = str(tmp_path / 'x.pth')
    torch.save([HistoryBuffer([1.0, 4.0], [1, 1])], path)
    (log,) = CheckpointLoader.load_checkpoint(path)
    assert log.statistics('largest_step') == 3.0
    assert log.statistics('mean') == 2.5


class Hostile:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Rename(Hostile):
    """A name that the file spells as it likes."""


class HostileState:
    """Pickles as an object of `function(*args)` with a state of its choice."""

    def __init__(self, function, args, state):
        self.call = function, args, state

    def __reduce__(self):
        return self.call


def touch(path):
    open(path, 'w').close()


def forge_object_dtype():
    """A dtype of pointers that claims to hold plain bytes."""
    state = (3, '|', None, None, None, -1, -1, 0)
    return HostileState(np.dtype, ('O8', False, True), state)


def forge_array(dtype, data):
    state = (1, (1,), dtype, False, data)
    make = np.zeros(0).__reduce__()[0]
    return HostileState(make, (np.ndarray, (0,), b'b'), state)


def forge_history(**state):
    return HostileState(HistoryBuffer, (), state)


HOSTILE = {
    'a shell command': lambda mark: Hostile(os.system, f'touch {mark}'),
    'eval': lambda mark: Hostile(eval, f'open({str(mark)!r}, "w")'),
    'exec within a list': lambda mark: [
        {'x': (Hostile(exec, f'open({str(mark)!r}, "w")'),)}
    ],
    'open': lambda mark: Hostile(open, str(mark), 'w'),
    'a function of this file': lambda mark: Hostile(touch, str(mark)),
    'getattr of a constructor': lambda mark: Hostile(
        getattr, HistoryBuffer, '__init__'
    ),
    'getattr of globals': lambda mark: Hostile(
        getattr, Hostile(getattr, HistoryBuffer, 'mean'), '__globals__'
    ),
    'getattr of a class': lambda mark: Hostile(getattr, np.ndarray, 'tofile'),
    'getattr of a method of text': lambda mark: Hostile(
        getattr, 'x', 'format'
    ),
    'getattr of an array': lambda mark: Hostile(
        getattr, np.zeros(1), 'tofile'
    ),
    'a call of what getattr returned': lambda mark: Hostile(
        torch._tensor._rebuild_from_type_v2,
        Hostile(getattr, HistoryBuffer, 'min'),
        torch.Tensor,
        (1,),
        {},
    ),
    'numpy loading a pickle': lambda mark: Hostile(np.load, str(mark)),
    'an array of objects': lambda mark: np.array([{}, 'x'], dtype=object),
    'pointers made from bytes': lambda mark: forge_array(
        forge_object_dtype(), b'\0' * 8
    ),
    'a structured dtype': lambda mark: np.zeros(1, [('x', 'O')]),
    'a subclass of ndarray': lambda mark: np.zeros(1).view(np.recarray),
    'more numbers than bytes': lambda mark: HostileState(
        np.zeros(0).__reduce__()[0],
        (np.ndarray, (0,), b'b'),
        (1, (1 << 40,), np.dtype('f8'), False, b'\0' * 8),
    ),
    'a call of ndarray': lambda mark: Hostile(np.ndarray, (1 << 10,), 'O'),
    'a statistic that is no statistic': lambda mark: forge_history(
        _log_history=np.ones(1),
        _count_history=np.ones(1),
        max_length=3,
        statistics_methods=dict(x=Hostile(getattr, HistoryBuffer, 'update')),
    ),
    'a history of no arrays': lambda mark: forge_history(
        _log_history=[1.0], _count_history=[1], max_length=3
    ),
    'a history without values': lambda mark: forge_history(max_length=3),
    'a value as a key': lambda mark: {np.int64(3): 'x'},
}


@needs_new_torch
@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_checkpoint_is_refused_in_one_line_with_nothing_run(
    name, tmp_path, stopped
):
    mark = tmp_path / 'mark'
    path = tmp_path / 'hostile.pth'
    good = torch.load(stopped[1], weights_only=False)
    good['message_hub']['runtime_info']['x'] = HOSTILE[name](mark)
    torch.save(good, path)
    methods = dict(HistoryBuffer._statistics_methods)
    runner = build_runner(tmp_path / 'other', 6)
    with pytest.raises(ValueError, match='nothing but tensors') as caught:
        runner.resume(str(path))
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)
    assert not mark.exists()
    assert HistoryBuffer._statistics_methods == methods


@needs_new_torch
def test_a_file_cannot_replace_the_statistics_of_this_process(tmp_path):
    path = str(tmp_path / 'x.pth')
    log = HistoryBuffer([1.0, 3.0], [1, 1])
    state = dict(log.__dict__, statistics_methods={'mean': HistoryBuffer.min})
    torch.save(HostileState(HistoryBuffer, (), state), path)
    loaded = CheckpointLoader.load_checkpoint(path)
    assert HistoryBuffer._statistics_methods['mean'] is HistoryBuffer.mean
    assert loaded.statistics('mean') == 2.0


def hide_from_pop(meta):
    """A file can give an OrderedDict a `pop` of its own that does nothing."""
    make = np.zeros(0).__reduce__()[0]
    return HostileState(OrderedDict, (list(meta.items()),), {'pop': make})


@pytest.mark.parametrize(
    'disguise',
    [
        dict,
        pytest.param(ConfigDict, marks=needs_new_torch),
        pytest.param(hide_from_pop, marks=needs_new_torch),
    ],
)
def test_resuming_does_not_run_the_config_text_of_a_checkpoint(
    stopped, tmp_path, disguise
):
    path = stopped[1]
    mark = tmp_path / 'mark'
    text = f'open({str(mark)!r}, "w")'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['meta'] = disguise(dict(checkpoint['meta'], config=text))
    torch.save(checkpoint, path)
    build_runner(tmp_path / 'run', 4, resume=True).train()
    assert not mark.exists()
    Config.fromstring(text, file_format='.py')
    assert mark.exists()  # so running the text would have been seen


@needs_new_torch
@pytest.mark.parametrize('damage', ['truncated', 'empty', 'text', 'html'])
def test_damaged_checkpoint_is_refused_in_one_line(stopped, damage):
    path = stopped[1]
    data = path.read_bytes()
    path.write_bytes(
        {
            'truncated': data[: len(data) // 2],
            'empty': b'',
            'text': b'not a checkpoint\n',
            'html': b'<!DOCTYPE html><html>404</html>' * 9,
        }[damage]
    )
    with pytest.raises(ValueError, match='must be a complete file') as caught:
        CheckpointLoader.load_checkpoint(str(path))
    assert f'got {path} (' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_missing_checkpoint_is_still_reported_by_its_path(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'gone.pth'))


def test_other_schemes_reach_their_own_loader(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        mmengine_checkpoint,
        'load_from_http',
        lambda url, map_location=None: seen.append(url) or {},
    )
    CheckpointLoader.load_checkpoint('torchvision://resnet18')
    assert seen[0].startswith('https://download.pytorch.org/')


@needs_new_torch
def test_what_is_allowed_outside_a_load_of_mmengine_stays_as_it_was(
    stopped, tmp_path
):
    with torch.serialization.safe_globals([Points, np.ndarray]):
        before = torch.serialization.get_safe_globals()
        CheckpointLoader.load_checkpoint(str(stopped[1]))
        assert set(torch.serialization.get_safe_globals()) == set(before)
        path = tmp_path / 'own.pth'
        torch.save(Points(), path)  # what a user allowed, still is
        loaded = CheckpointLoader.load_checkpoint(str(path))
        assert type(loaded) is Points
    with pytest.raises(pickle.UnpicklingError):
        torch.load(stopped[1], weights_only=True)


@needs_new_torch
def test_real_classes_that_a_user_allowed_do_not_take_a_records_place(
    tmp_path,
):
    path = str(tmp_path / 'x.pth')
    torch.save(forge_array(forge_object_dtype(), b'\0' * 8), path)
    real = [np.dtype, np.ndarray, getattr, HistoryBuffer, type(np.dtype('O'))]
    real.append(np.zeros(0).__reduce__()[0])
    with (
        torch.serialization.safe_globals(real),
        pytest.raises(ValueError, match='dtype O8'),
    ):
        CheckpointLoader.load_checkpoint(path)


@needs_new_torch
def test_fallback_of_the_forks_to_unsafe_loading_is_taken_out(
    monkeypatch, tmp_path
):
    def safe_torch_load(file, map_location=None, weights_only=None):
        return torch.load(file, map_location, weights_only=False)

    monkeypatch.setattr(
        mmengine_checkpoint, '_safe_torch_load', safe_torch_load, raising=False
    )
    mark = tmp_path / 'mark'
    torch.save(Hostile(touch, str(mark)), tmp_path / 'x.pth')
    compat.apply()
    with pytest.raises(pickle.UnpicklingError):
        mmengine_checkpoint._safe_torch_load(str(tmp_path / 'x.pth'))
    assert not mark.exists()


def test_applying_twice_changes_nothing():
    before = CheckpointLoader.load_checkpoint.__func__, lvis.eval.np
    compat.apply()
    assert (CheckpointLoader.load_checkpoint.__func__, lvis.eval.np) == before


@pytest.fixture
def upstream_wrapper(monkeypatch):
    """mmengine's wrapper as it comes."""
    init = MMDistributedDataParallel.__init__
    init = getattr(init, '__wrapped__', init)
    monkeypatch.setattr(MMDistributedDataParallel, '__init__', init)
    return init


def test_without_a_gpu_sync_bn_becomes_bn_of_the_same_weights(
    one_process, upstream_wrapper, monkeypatch
):
    monkeypatch.setattr(compat, 'get_device', lambda: 'cpu')
    compat.distribute_on_cpu()
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4))
    weight = model[1].weight
    wrapped = MMDistributedDataParallel(model, device_ids=[0])
    assert isinstance(wrapped.module[1], nn.modules.batchnorm._BatchNorm)
    assert not isinstance(wrapped.module[1], nn.SyncBatchNorm)
    wrapped(torch.randn(2, 3, 4, 4)).square().sum().backward()
    assert wrapped.module[1].weight is weight and weight.grad is not None


def test_with_a_gpu_nothing_of_the_distributed_launch_is_changed(
    one_process, upstream_wrapper, monkeypatch
):
    monkeypatch.setattr(compat, 'get_device', lambda: 'cuda')
    before = vars(mmengine_dist).copy()
    compat.distribute_on_cpu()
    assert vars(mmengine_dist) == before
    assert MMDistributedDataParallel.__init__ is upstream_wrapper
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4))
    with pytest.raises(ValueError, match='only work with GPU modules'):
        MMDistributedDataParallel(model)  # so it was left as it is
    assert isinstance(model[1], nn.SyncBatchNorm)


def build_lvis(num_images=4):
    """Two categories, one square each in every image."""
    boxes = [[4.0, 4.0, 20.0, 20.0], [30.0, 30.0, 10.0, 12.0]]
    annotations = [
        dict(
            id=2 * image + label + 1,
            image_id=image + 1,
            category_id=label + 1,
            bbox=box,
            area=box[2] * box[3],
            segmentation=[[4.0, 4.0, 24.0, 4.0, 24.0, 24.0]],
        )
        for image in range(num_images)
        for label, box in enumerate(boxes)
    ]
    images = [
        dict(
            id=image + 1,
            height=64,
            width=64,
            neg_category_ids=[],
            not_exhaustive_category_ids=[],
        )
        for image in range(num_images)
    ]
    categories = [
        dict(id=1, name='a', frequency='r', synonyms=['a'], synset='a.n.01'),
        dict(id=2, name='b', frequency='f', synonyms=['b'], synset='b.n.01'),
    ]
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.mark.parametrize(
    ('num_found', 'expected'), [(8, 1.0), (4, 0.5)], ids=['all', 'half']
)
def test_lvis_evaluation_of_perfect_boxes_gives_the_share_found(
    tmp_path, num_found, expected
):
    path = tmp_path / 'lvis.json'
    path.write_text(json.dumps(build_lvis()))
    truth = LVIS(str(path))
    found = [
        dict(
            image_id=x['image_id'],
            category_id=x['category_id'],
            bbox=x['bbox'],
            score=0.9,
        )
        for x in build_lvis()['annotations'][:num_found]
    ]
    evaluation = LVISEval(truth, LVISResults(truth, found), 'bbox')
    evaluation.run()
    results = evaluation.get_results()
    assert results['AP'] == pytest.approx(expected, abs=0.01)
    assert results['APr'] == pytest.approx(expected, abs=0.01)


def test_numpy_itself_is_left_alone():
    assert lvis.eval.np.zeros is np.zeros
    if digit_version(np.__version__) >= digit_version('1.24.0'):
        assert not hasattr(np, 'float')
