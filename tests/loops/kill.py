"""Train once without, and once with many a SIGKILL: what was different.

A fresh interpreter imports MMDetection once and forks each training process,
so that a start costs no import: ``python -m tests.loops.kill FOLDER DATA``.
It writes ``FOLDER/CASE.json`` for each case.
"""

import json
import multiprocessing
import os
import random
import sys
import time
import warnings
from pathlib import Path

import mmengine.config.config as mmengine_config
import torch
from mmdet.registry import HOOKS, MODELS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

import mmfrozen  # noqa: F401  (registers)
from tests.tiny import build, tiny_config

FORK = multiprocessing.get_context('fork')
LOOPS = {
    'iter': dict(
        type='mmfrozen.ResumableIterBasedTrainLoop', val_interval=10**6
    ),
    'epoch': dict(
        type='mmfrozen.ResumableEpochBasedTrainLoop', val_interval=10**6
    ),
}


@HOOKS.register_module()
class WriteSamples(Hook):
    """Writes the ids of the samples of every step as it begins."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        ids = [sample.img_id for sample in data_batch['data_samples']]
        line = json.dumps([runner.iter, batch_idx, ids]) + '\n'
        path = Path(runner.work_dir, f'samples_{get_rank()}.txt')
        with path.open('a') as file:
            file.write(line)


@MODELS.register_module()
class Noisy(BaseModel):
    """A step of a few milliseconds that draws random numbers."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.Dropout(0.5)
        )

    def forward(self, inputs, data_samples=None, mode='tensor'):
        boxes = [x.gt_instances.bboxes.tensor.sum() for x in data_samples]
        image = torch.stack([self.body(x[None] / 255).mean() for x in inputs])
        target = torch.stack(boxes) / 1000 * random.random()
        return {'loss': ((image - target) ** 2).mean()}


def detector(cfg, folder):
    """Mask R-CNN with 8 channels; the backbone stays out of checkpoints."""
    backbone = dict(depth=18, stem_channels=8, base_channels=8)
    cfg.model.backbone.update(backbone)
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    checkpoint = folder / 'classifier.pth'
    if not checkpoint.exists():
        torch.manual_seed(1)
        config = dict(cfg.model.backbone.to_dict(), init_cfg=None)
        torch.save(MODELS.build(config).state_dict(), checkpoint)
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    cfg.default_hooks.frozen_guard.save_backbone = False


def noisy(cfg, folder):
    """No detector, for what is up to data alone."""
    cfg.model = dict(type='Noisy')
    cfg.custom_hooks = [dict(type='mmdet.NumClassCheckHook')][:0]
    for hook in ('frozen_guard', 'drift', 'step_cost'):
        del cfg.default_hooks[hook]
    cfg.optim_wrapper.constructor = 'DefaultOptimWrapperConstructor'


def make(folder, data, case, name):
    """The config of a run."""
    cfg = tiny_config(folder / name, data, folder / 'none.pth')
    case['model'](cfg, folder)
    loader = cfg.train_dataloader
    loader.update(num_workers=case['workers'], drop_last=True)
    loader.persistent_workers = case['workers'] > 0
    loader.sampler = dict(type=case['sampler'], shuffle=True)
    if case['by_shape']:
        del loader['drop_last']
        loader.batch_sampler = dict(type='AspectRatioBatchSampler')
    loader.dataset.oversample_thr = 0.3
    loader.dataset.dataset.indices = None
    cfg.train_cfg = dict(LOOPS[case['loop']])
    cfg.train_cfg[f'max_{case["loop"]}s'] = case['length']
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=2)
    cfg.default_hooks.logger.interval = 4
    cfg.custom_hooks.append(dict(type='WriteSamples'))
    cfg.randomness = dict(seed=case.get('seed', 3), deterministic=True)
    cfg.resume = True
    return cfg


def train(cfg):
    """What a training process does."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)  # whatever ran before
    build(cfg).train()


def start(cfg):
    process = FORK.Process(target=train, args=(cfg,))
    process.start()
    return process


def lines(work_dir):
    path = work_dir / 'samples_0.txt'
    return path.read_text().splitlines() if path.exists() else []


def written(work_dir):
    """Sizes of the checkpoints, which tell when one is being written."""
    return {
        entry.name: entry.stat().st_size
        for entry in os.scandir(work_dir)
        if '.pth' in entry.name
    }


def wait_to_kill(process, work_dir, dice):
    """Wait for a random moment; say which."""
    done, before = len(lines(work_dir)), written(work_dir)
    when = dice.choice(('loading', 'step', 'step', 'writing', 'writing'))
    steps, deadline = dice.randint(1, 3), time.time() + 60
    while process.is_alive() and time.time() < deadline:
        if when == 'writing':
            if written(work_dir) != before:
                break
        elif len(lines(work_dir)) >= done + steps:
            time.sleep(dice.uniform(0, 0.1))
            break
        elif when == 'loading' and len(lines(work_dir)) > done:
            break
        time.sleep(0.0005)
    return when


def kill_and_resume(cfg, num_kills, dice):
    """Train; returns how often it was killed, and when."""
    work_dir, kills = Path(cfg.work_dir), []
    work_dir.mkdir()
    while True:
        process = start(cfg)
        if len(kills) < num_kills:
            when = wait_to_kill(process, work_dir, dice)
            process.kill()
        process.join()
        if process.exitcode >= 0:
            return process.exitcode, kills
        kills.append(when)


def main(folder, data):
    warnings.simplefilter('ignore')
    mmengine_config.FormatCode = lambda text, **_: (text, True)
    names = sys.argv[3:] or CASES
    for name in names:
        case, dice = CASES[name], random.Random(name)
        clock = time.time()
        killed = make(folder, data, case, f'{name}-killed')
        status, kills = kill_and_resume(killed, case['kills'], dice)
        whole = make(folder, data, case, f'{name}-whole')
        process = start(whole)
        process.join()
        print(name, status, process.exitcode, len(kills), time.time() - clock)


CASES = {
    'detector': dict(
        model=detector,
        loop='iter',
        workers=2,
        sampler='InfiniteSampler',
        by_shape=True,
        length=64,
        kills=20,
    ),
    'a': dict(
        model=noisy,
        loop='epoch',
        workers=0,
        sampler='DefaultSampler',
        by_shape=False,
        length=3,
        kills=5,
    ),
}

if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]))
