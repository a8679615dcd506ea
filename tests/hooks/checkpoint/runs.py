"""Runs of a fraction of a second, whose checkpoints are the matter.

``python -m tests.hooks.checkpoint.runs FOLDER KILLS HOOK...`` imports
MMDetection once and forks each training process. It kills runs with each hook
while they write, sends signals to one of two processes, and prints
what was left as JSON.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import mmengine.config.config as mmengine_config
import torch
import torch.distributed as dist
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from torch import nn

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.hooks.checkpoint.resume_from import why_broken

NUMBERS = itertools.count()
FORK = multiprocessing.get_context('fork')


@MODELS.register_module()
class Line(BaseModel):
    """One layer, whose size is that of the checkpoint."""

    def __init__(self, width=4, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.layer = nn.Linear(width, 1)

    def forward(self, x, mode='tensor'):
        out = self.layer(torch.ones(1, self.layer.in_features))
        return {'loss': out.mean()} if mode == 'loss' else [out]


@METRICS.register_module()
class Listed(BaseMetric):
    """Scores that are known in advance."""

    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {'acc': next(self.scores)}


@HOOKS.register_module()
class Call(Hook):
    """Calls a function at one moment of a run."""

    def __init__(self, stage, function, at=None, priority='NORMAL'):
        self.priority = priority

        def call(runner, *args, **inputs):
            if at is None or runner.iter == at:
                function(runner)

        setattr(self, stage, call)


def send(number, stage='before_train_iter', at=2):
    """A hook that sends a signal to its own process."""

    def kill(runner):
        os.kill(os.getpid(), number)

    return dict(type='Call', stage=stage, function=kill, at=at)


def make(
    work_dir,
    *,
    hook='mmfrozen.SafeCheckpointHook',
    epochs=None,
    iters=6,
    width=4,
    scores=(),
    hooks=(),
    resume=False,
    load_from=None,
    accumulate=1,
    launcher='none',
    workers=0,
    **checkpoint,
):
    """A runner; a pass over the data has 4 steps."""
    name = f'run-{os.getpid()}-{next(NUMBERS)}'
    loop = dict(by_epoch=epochs is not None)
    loop.update(dict(max_epochs=epochs) if epochs else dict(max_iters=iters))
    if not epochs:
        loop.update(val_interval=2)
    loader = dict(
        dataset=[torch.tensor(i) for i in range(4)],
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
        num_workers=workers,
    )
    if not epochs:
        loader['sampler'] = dict(type='InfiniteSampler')
    options = dict(by_epoch=bool(epochs), interval=1)
    val = {}
    if scores:
        val = dict(
            val_dataloader=dict(
                loader, sampler=dict(type='DefaultSampler', shuffle=False)
            ),
            val_cfg=dict(),
            val_evaluator=dict(type='Listed', scores=scores),
        )
    warnings.simplefilter('ignore')
    return Runner(
        model=dict(type='Line', width=width),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=loop,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1), accumulative_counts=accumulate
        ),
        param_scheduler=dict(type='ConstantLR', factor=1),
        default_hooks=dict(checkpoint=dict(type=hook, **options | checkpoint)),
        custom_hooks=list(hooks),
        visualizer=dict(
            type='Visualizer',
            name=name,
            vis_backends=[dict(type='mmfrozen.SafeLocalVisBackend')],
        ),
        resume=resume,
        load_from=load_from,
        launcher=launcher,
        experiment_name=name,
        log_level='WARNING',
        randomness=dict(seed=0),
        **val,
    )


def _quiet_run(work_dir, options):
    sys.stderr = open(os.devnull, 'w')  # noqa: SIM115
    torch.set_num_threads(1)
    MessageHub._instance_dict.clear()
    make(work_dir, **options).train()


def _checkpoints(folder):
    sizes = {}
    for path in folder.glob('*.pth*'):
        with contextlib.suppress(FileNotFoundError):
            sizes[path.name] = path.stat().st_size
    return sizes


def kill_while_writing(work_dir, dice, **options):
    """Kill a run at a moment of its writing.

    Returns:
        Whether a checkpoint is left that can be loaded, and whether
        ``last_checkpoint`` names one.
    """
    work_dir.mkdir(parents=True)
    record = work_dir / 'last_checkpoint'
    process = FORK.Process(
        target=_quiet_run, args=(work_dir, options), daemon=True
    )
    process.start()
    while not (record.exists() and record.stat().st_size):
        assert process.is_alive()
        time.sleep(0.002)
    for _ in range(dice.randint(1, 4)):
        before = _checkpoints(work_dir)
        while process.is_alive() and _checkpoints(work_dir) == before:
            pass
    time.sleep(dice.uniform(0, 0.004))
    process.kill()
    process.join()
    left = [work_dir / n for n in _checkpoints(work_dir) if n.endswith('.pth')]
    named = Path(record.read_text().strip() or 'nothing')
    return (
        any(why_broken(path) is None for path in left),
        why_broken(named) is None,
    )


def count_losses(folder, kills, hooks):
    """Of runs that keep one and two checkpoints."""
    lost = {}
    for hook in hooks:
        for keep in (1, 2):
            dice = random.Random(keep)
            outcomes = [
                kill_while_writing(
                    folder / f'{hook}-{keep}-{number}',
                    dice,
                    hook=hook,
                    iters=10**6,
                    width=2_000_000,
                    max_keep_ckpts=keep,
                )
                for number in range(kills)
            ]
            lost[f'{hook} {keep}'] = dict(
                kills=kills,
                nothing=sum(not any_left for any_left, _ in outcomes),
                last=sum(not last for _, last in outcomes),
            )
    return lost


def _rank(work_dir, rank, stage, queue):
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
    sys.stderr = open(os.devnull, 'w')  # noqa: SIM115
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{work_dir}.store', rank=rank, world_size=2
    )
    hooks = [send(signal.SIGUSR1, stage)] if rank else []
    runner = make(work_dir, iters=50, interval=40, hooks=hooks, scores=[1] * 9)
    try:
        runner.train()
    except SystemExit as stop:
        queue.put((rank, stop.code, runner.iter))
        raise


def stop_one_of_two(work_dir, stage):
    """Send a signal to the second process only.

    Returns:
        Rank, status and last step of each, and the names of checkpoints.
    """
    queue = FORK.Queue()
    ranks = [
        FORK.Process(target=_rank, args=(work_dir, rank, stage, queue))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    ends = sorted(queue.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(60)
    return ends, sorted(_checkpoints(work_dir))


def main(folder, kills, *hooks):
    mmengine_config.FormatCode = lambda text, **_: (text, True)
    folder.mkdir(parents=True, exist_ok=True)
    stopped = {
        stage: stop_one_of_two(folder / stage, stage)
        for stage in ('before_train_iter', 'before_val_iter')
    }
    print(
        json.dumps(
            dict(lost=count_losses(folder, kills, hooks), stopped=stopped)
        )
    )


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
