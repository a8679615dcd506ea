"""Train once without, and once with many a SIGKILL: what is different?

A fresh interpreter imports MMDetection once and forks each training process,
so that a start costs no import: ``python -m tests.loops.kill FOLDER DATA``.
It writes ``FOLDER/CASE.json`` for each case.
"""

import contextlib
import json
import multiprocessing
import os
import random
import socket
import sys
import time
import warnings
from multiprocessing import connection
from pathlib import Path

import mmengine.config.config as mmengine_config
import mmengine.runner.runner as mmengine_runner
import numpy as np
import torch
from mmdet.registry import DATASETS, HOOKS, MODELS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from mmfrozen.datasets import CheckedLVISV1Dataset
from tests.loops.noisy import noisy_config
from tests.tiny import build, tiny_config

#: What two runs cannot share: their names and the time.
OWN = ('/cfg', '/experiment_name', '/last_ckpt', '/time', '/data_time', '/eta')
PLAIN = dict(
    loop='Epoch',
    length=2,
    steps=70,
    workers=0,
    sampler='DefaultSampler',
    by_shape=False,
    kills=4,
    seed=3,
    processes=1,
)
INFINITE = dict(loop='Iter', sampler='InfiniteSampler')
#: What each case has in place of PLAIN's.
CHANGES = {
    # the pack's experiment
    'detector': dict(
        INFINITE, length=64, steps=64, workers=2, by_shape=True, kills=22
    ),
    'epochs': dict(),
    'epochs-by-shape': dict(workers=2, by_shape=True),
    # passes over the data end in the middle of it
    'steps': dict(loop='Iter', length=50, steps=50, workers=2, by_shape=True),
    'drawn-seed': dict(INFINITE, length=20, steps=20, kills=3, seed=None),
    'two-processes': dict(steps=36, kills=3, processes=2),
}
CASES = {name: PLAIN | changes for name, changes in CHANGES.items()}


@DATASETS.register_module()
class TwoShapes(CheckedLVISV1Dataset):
    """Every fifth image passes for a tall one, so that an epoch ends with
    one of each, and has a batch less than the sampler says."""

    def get_data_info(self, idx):
        info = super().get_data_info(idx)
        if idx % 5 == 0:
            info['width'], info['height'] = 1, 2
        return info


@HOOKS.register_module()
class WriteSamples(Hook):
    """Writes the ids of the samples of every step as it begins, and draws
    random numbers at the second step of each start."""

    drawn = 0

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.drawn += 1
        if self.drawn == 2:
            torch.rand(1)
        ids = [sample.img_id for sample in data_batch['data_samples']]
        path = Path(runner.work_dir, f'samples_{get_rank()}.txt')
        with path.open('a') as file:
            file.write(json.dumps([runner.iter, batch_idx, ids]) + '\n')


def detector_config(folder, data, name):
    """Mask R-CNN on 8 channels; the backbone stays out of checkpoints."""
    checkpoint = folder / 'classifier.pth'
    cfg = tiny_config(folder / name, data, checkpoint)
    cfg.model.backbone.update(depth=18, stem_channels=8, base_channels=8)
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    if not checkpoint.exists():
        torch.manual_seed(1)
        backbone = MODELS.build(dict(cfg.model.backbone, init_cfg=None))
        torch.save(backbone.state_dict(), checkpoint)
    cfg.default_hooks.frozen_guard.save_backbone = False
    cfg.default_hooks.drift.interval = 7
    return cfg


def make(folder, data, name, case, seed=3):
    """The config of a run."""
    make_one = detector_config if 'detector' in name else noisy_config
    cfg = make_one(folder, data, name)
    loader = cfg.train_dataloader
    loader.update(num_workers=case['workers'], drop_last=True)
    loader.persistent_workers = case['workers'] > 0
    loader.sampler = dict(type=case['sampler'], shuffle=True)
    if case['by_shape']:
        loader.dataset.dataset.type = 'TwoShapes'
        last = dict(drop_last=loader.pop('drop_last'))
        loader.batch_sampler = dict(type='AspectRatioBatchSampler', **last)
    loader.dataset.oversample_thr = 0.35
    loader.dataset.dataset.indices = None
    unit = f'max_{case["loop"].lower()}s'
    cfg.train_cfg = dict(
        type=f'mmfrozen.Resumable{case["loop"]}BasedTrainLoop',
        **{unit: case['length']},
    )
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.default_hooks.checkpoint.update(
        type='mmfrozen.SafeCheckpointHook',
        by_epoch=False,
        interval=2,
        max_keep_ckpts=2,
    )
    cfg.default_hooks.logger.interval = 4
    cfg.custom_hooks.append(dict(type='WriteSamples'))
    cfg.randomness = dict(seed=seed, deterministic=True)
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    cfg.resume = True
    return cfg


def train(cfg, rank, size, port):
    """What a training process does."""
    np.random.seed()  # a fork would draw the seed of those before it
    torch.set_num_threads(1)
    if size > 1:
        cfg.launcher = 'pytorch'
        names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_PORT')
        values = map(str, (rank, rank, size, port))
        os.environ.update(zip(names, values, strict=True))
        os.environ['MASTER_ADDR'] = '127.0.0.1'
    build(cfg).train()


def start(cfg, size):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [
        multiprocessing.Process(target=train, args=(cfg, rank, size, port))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def finish(processes):
    """Wait for the end; as a launcher does, end the others of one that died,
    which may wait for it for half an hour."""
    running = {process.sentinel: process for process in processes}
    while running:
        for sentinel in connection.wait(running):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                for other in running.values():
                    other.kill()
    return processes[0].exitcode


def steps_in(work_dir):
    """Steps that have begun."""
    path = work_dir / 'samples_0.txt'
    lines = path.read_text().split('\n')[:-1] if path.exists() else []
    return json.loads(lines[-1])[0] + 1 if lines else 0


def checkpoints_in(work_dir):
    """Their sizes, which change while one is being written."""
    sizes = {}
    for entry in os.scandir(work_dir):
        with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
            if '.pth' in entry.name:
                sizes[entry.name] = entry.stat().st_size
    return sizes


def wait_to_kill(process, work_dir, target, dice):
    """Wait for a random moment after so many steps; say which."""
    when = dice.choice(('start', 'step', 'step', 'writing', 'writing'))
    if when == 'start':
        time.sleep(dice.uniform(0, 0.3))
        return when
    while process.is_alive() and steps_in(work_dir) < target:
        time.sleep(0.001)
    before = checkpoints_in(work_dir)
    if when == 'step':
        time.sleep(dice.uniform(0, 0.05))
    while when == 'writing' and process.is_alive():
        if checkpoints_in(work_dir) != before:
            break
    return when


def train_killed(cfg, case, dice):
    """Train; returns the exit status, and when it was killed."""
    work_dir, kills, size = Path(cfg.work_dir), [], case['processes']
    work_dir.mkdir()
    part = (case['steps'] - 8) / case['kills']
    targets = [int((i + dice.random()) * part) for i in range(case['kills'])]
    for target in [*targets, None]:
        processes = start(cfg, size)
        if target is not None:
            when = wait_to_kill(processes[0], work_dir, target, dice)
            dice.choice(processes).kill()
        status = finish(processes)
        if any(p.exitcode < 0 for p in processes):
            kills.append(when)
    return status, kills


def order(work_dir):
    """By process and step: the batches that it began with, once or more."""
    found = {}
    for path in sorted(work_dir.glob('samples_*.txt')):
        for line in path.read_text().splitlines():
            step, *batch = json.loads(line)
            found.setdefault(f'{path.stem} {step}', []).append(batch)
    return found


def read_json(work_dir, name):
    path = work_dir / name
    return json.loads(path.read_text()) if path.exists() else None


def last_checkpoint(work_dir):
    path = Path(work_dir, 'last_checkpoint').read_text()
    return torch.load(path, weights_only=False, map_location='cpu')


def leaves(value, name=''):
    """All that a checkpoint holds, bit by bit."""
    if name.endswith(OWN):
        return
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], f'{name}/{key}')
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from leaves(item, f'{name}/{number}')
    elif isinstance(value, HistoryBuffer):
        yield name, value.data[0].tobytes()
    elif name == '/meta/mmengine_version':
        yield name, value.partition('+')[0]  # the clone's revision follows
    elif isinstance(value, torch.Tensor):
        yield name, value.numpy().tobytes()
    else:
        yield name, value


def run_case(folder, data, name):
    case, dice = CASES[name], random.Random(name)
    killed = make(folder, data, f'{name}-killed', case, case['seed'])
    status, kills = train_killed(killed, case, dice)
    one = last_checkpoint(killed.work_dir)
    whole = make(folder, data, f'{name}-whole', case, one['meta']['seed'])
    finish(start(whole, case['processes']))
    other = last_checkpoint(whole.work_dir)
    a, b = dict(leaves(one)), dict(leaves(other))
    folders = (Path(killed.work_dir), Path(whole.work_dir))
    return dict(
        status=status,
        kills=kills,
        steps=(one['meta']['iter'], other['meta']['iter']),
        orders=[order(folder) for folder in folders],
        drifts=[read_json(folder, 'drift.json') for folder in folders],
        costs=[read_json(folder, 'step_cost.json') for folder in folders],
        compared=sorted(a.keys() & b.keys()),
        differ=sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k)),
    )


def main(folder, data, *names):
    warnings.simplefilter('ignore')
    multiprocessing.set_start_method('fork')
    mmengine_config.FormatCode = lambda text, **_: (text, True)
    mmengine_runner.collect_env = dict  # it asks the compiler every time
    for name in names or CASES:
        result = run_case(folder, data, name)
        (folder / f'{name}.json').write_text(json.dumps(result))


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
