"""Gaps in upstream releases, closed at import: one function each.

Each function does nothing where upstream is fixed; its docstring says where
the gap is discussed and when the function can go.
"""

import errno
import functools
import logging
import re
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import mmengine.dist.utils as mmengine_dist
import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.runner import Runner
from mmengine.utils import digit_version
from torch import nn

from .safe_unpickle import allow_records, restore


def apply() -> None:
    """Close every gap. Calling it again changes nothing."""
    evaluate_lvis_on_new_numpy()
    resume_on_new_torch()
    ignore_config_in_checkpoint()  # after it: has to see restored values
    distribute_on_cpu()


def evaluate_lvis_on_new_numpy() -> None:
    """Give `lvis.eval`, and nothing else, the `np.float` it asks for.

    lvis 0.5.3 uses an alias that numpy 1.24 removed:
    https://github.com/lvis-dataset/lvis-api/issues/37.
    Expires when setup.cfg requires an lvis that does not use `np.float`.
    """
    try:
        import lvis.eval as lvis_eval
    except ImportError:  # without LVIS nothing needs it
        return
    names = lvis_eval.LVISEval.accumulate.__code__.co_names
    if 'float' in names and not hasattr(lvis_eval.np, 'float'):
        lvis_eval.np = _NumpyWithFloat('numpy')


class _NumpyWithFloat(types.ModuleType):
    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def resume_on_new_torch() -> None:
    """Read mmengine's checkpoints with `weights_only=True`, torch's default.

    torch >= 2.6 refuses the `HistoryBuffer`s and numpy values in them:
    https://github.com/open-mmlab/mmengine/issues/1655. Allow-listing numpy's
    own classes would let a file run code (a dtype with forged flags turns
    bytes into object pointers), so their names stand for inert records here,
    which `inert.restore` turns into values after checking them.
    What it downloads (URLs, `torchvision://`, `open-mmlab://`) torch.hub reads
    with `weights_only=False`, which is torch's default there.
    onedl-mmengine falls back to `weights_only=False`; that is taken out.
    Older torch reads everything, hostile files too: nothing is done there.
    Expires when mmengine resumes on torch >= 2.6 and refuses hostile files.
    """
    if digit_version(torch.__version__) < digit_version('2.6.0'):
        return
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):  # onedl-mmengine
        mmengine_checkpoint._safe_torch_load = torch.load
    mmengine_checkpoint.load_url = functools.partial(
        torch.hub.load_state_dict_from_url, weights_only=True
    )

    def load(load_upstream: Callable[[], Any], filename: str) -> Any:
        try:
            with allow_records():
                return restore(load_upstream())
        except Exception as error:
            if _is_about_machine(error):
                raise
            raise ValueError(
                'A checkpoint must be a whole file that holds nothing but '
                f'tensors, numbers and text, got {filename} '
                f'({_explain(error)}). Copy or save it again, or use another '
                'one.'
            ) from error

    _wrap_loader(load)


def ignore_config_in_checkpoint() -> None:
    """Keep `Runner.resume` from running the Python text `meta.config`.

    It executes that text to read `gpu_ids`, a key that no mmengine release
    has written (`meta.cfg` is what they write). Unreported upstream; present
    in mmengine 0.10.7 and onedl-mmengine 0.10.12.
    Expires when `resume` in mmengine/runner/runner.py calls no `fromstring`.
    """

    def load(load_upstream: Callable[[], Any], filename: str) -> Any:
        checkpoint = load_upstream()
        if isinstance(checkpoint, dict) and 'meta' in checkpoint:
            meta = checkpoint['meta']
            if isinstance(meta, dict) and 'config' in meta:
                del meta['config']  # not `pop`: a file can put its own there
        return checkpoint

    if 'fromstring' in Runner.resume.__code__.co_names:
        _wrap_loader(load)


def distribute_on_cpu() -> None:
    """Let `--launcher pytorch`, `slurm` and `mpi` train without CUDA.

    mmengine's `init_dist` calls `torch.cuda.set_device` always, its runner
    gives the wrapper `device_ids`, and torch's SyncBN refuses CPU tensors in
    distributed runs. The environment is set up after a config's
    `custom_imports`, so this is in time. Where there is a GPU (or another
    accelerator) nothing is done. Unreported upstream.
    Expires when mmengine's launchers train on CPUs by themselves.
    """
    if get_device() != 'cpu':
        return
    for launcher in ('pytorch', 'slurm', 'mpi'):
        name = f'_init_dist_{launcher}'
        upstream = getattr(mmengine_dist, name)
        if not hasattr(upstream, '__wrapped__'):
            setattr(mmengine_dist, name, _without_cuda(upstream))
    wrapper = MMDistributedDataParallel
    if not hasattr(wrapper.__init__, '__wrapped__'):
        wrapper.__init__ = _on_cpu(wrapper.__init__)


def _without_cuda(init_dist: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init_dist)
    def init(backend: str, *args: Any, **kwargs: Any) -> None:
        if backend == 'nccl':
            raise ValueError(
                'env_cfg.dist_cfg.backend must be gloo without CUDA, got '
                "'nccl'. Find out why torch sees no GPU, or set it with "
                '--cfg-options env_cfg.dist_cfg.backend=gloo.'
            )
        with mock.patch.object(torch.cuda, 'set_device'):
            init_dist(backend, *args, **kwargs)

    return init


def _on_cpu(upstream: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(upstream)
    def init(
        self: nn.Module, module: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        synced = [
            name
            for name, child in module.named_modules()
            if 'SyncBatchNorm' in type(child).__name__  # torch's and mmcv's
        ]
        if synced:
            print_log(
                f'SyncBN needs GPUs: {len(synced)} of its layers, the first '
                f'is {synced[0]}, become BN, with the statistics of each '
                'process by itself.',
                logger='current',
                level=logging.WARNING,
            )
            module = revert_sync_batchnorm(module)
        upstream(self, module, *args, **{**kwargs, 'device_ids': None})

    return init


def _wrap_loader(load: Callable[[Callable[[], Any], str], Any]) -> None:
    """Pass every load of mmengine (file, http, torchvision) through `load`."""
    loader = mmengine_checkpoint.CheckpointLoader
    upstream = loader.load_checkpoint.__func__
    wrapped = getattr(upstream, 'mmfrozen_wraps', ())
    if load.__qualname__ in wrapped:
        return

    @functools.wraps(upstream)
    def load_checkpoint(cls, filename, *args, **kwargs):
        return load(lambda: upstream(cls, filename, *args, **kwargs), filename)

    load_checkpoint.mmfrozen_wraps = (*wrapped, load.__qualname__)
    loader.load_checkpoint = classmethod(load_checkpoint)


def _is_about_machine(error: Exception) -> bool:
    """Tell a missing file, module or device from a file that is no good."""
    if isinstance(error, OSError):
        return error.errno != errno.EINVAL  # torch's word for a cut-off file
    if isinstance(error, RuntimeError):
        return bool(re.search('memory|CUDA|device', str(error)))
    return isinstance(error, ImportError)


def _explain(error: Exception) -> str:
    """Find the line that says why in torch's page of advice."""
    text = str(error)
    found = re.search(r'WeightsUnpickler error: (.+)', text)
    line = found.group(1) if found else text.partition('\n')[0]
    return line.partition(' was not an allowed')[0] or type(error).__name__
