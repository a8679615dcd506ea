"""Hooks that a launched run imports: one looks inside, others do harm."""

import atexit
import json
import os
import signal
import time
from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_rank, is_distributed
from mmengine.hooks import Hook
from torch import nn

from mmfrozen.freezing import fingerprint


@HOOKS.register_module()
class ProbeHook(Hook):
    """Writes what DDP and the optimizer hold, and what came of it."""

    def before_train(self, runner):
        wrapped = runner.model
        names = {p: n for n, p in wrapped.module.named_parameters()}
        buckets = wrapped.reducer._get_zeros_like_grad_buckets()
        groups = runner.optim_wrapper.optimizer.param_groups
        self.seen = dict(
            in_buckets=[names[p] for b in buckets for p in b.parameters()],
            in_optimizer=[names[p] for g in groups for p in g['params']],
            before=fingerprint(wrapped.module),
            find_unused_parameters=wrapped.find_unused_parameters,
            norms=sorted(
                {
                    type(m).__name__
                    for m in wrapped.module.neck.modules()
                    if isinstance(m, nn.modules.batchnorm._BatchNorm)
                }
            ),
        )

    def after_train(self, runner):
        self.seen['after'] = fingerprint(runner.model.module)
        path = Path(runner.work_dir, f'rank_{get_rank()}.json')
        path.write_text(json.dumps(self.seen))
        # Registered before the runner's own, so it is called after it.
        atexit.register(self.look_at_exit, path.with_suffix('.exit'))

    def look_at_exit(self, path):
        path.write_text('in a group' if is_distributed() else 'alone')


@HOOKS.register_module()
class FlipBitOnRank1(Hook):
    """Changes one bit of a frozen weight, in the second process only."""

    def after_train_iter(self, runner, *args, **kwargs):
        if get_rank() == 1 and runner.iter == 0:
            weight = runner.model.module.backbone.layer1[0].conv1.weight.data
            weight.view(torch.int32).view(-1)[0] ^= 1


@HOOKS.register_module()
class KillRank1(Hook):
    """Ends the second process as the system does when memory is short."""

    def after_train_iter(self, runner, *args, **kwargs):
        if get_rank() == 1 and runner.iter == 1:
            Path(runner.work_dir, 'killed_at').write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
