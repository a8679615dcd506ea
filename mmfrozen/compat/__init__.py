"""Workarounds for bugs in upstream releases, applied at import: one function
each.

Each function does nothing if upstream is fixed; its docstring names the
upstream issue and says when the function can be removed.
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
    """Apply all workarounds. Calling it again changes nothing."""
    evaluate_lvis_on_new_numpy()
    resume_on_new_torch()
    ignore_config_in_checkpoint()  # second, so that it gets restored values
    distribute_on_cpu()


def evaluate_lvis_on_new_numpy() -> None:
    """Give `lvis.eval`, and nothing else, the alias `np.float` that it uses.

    lvis 0.5.3 uses an alias that numpy 1.24 removed:
    https://github.com/lvis-dataset/lvis-api/issues/37. Expires when setup.cfg
    requires an lvis that does not use `np.float`.
    """
    try:
        import lvis.eval as lvis_eval
    except ImportError:  # not needed without lvis
        return
    names = lvis_eval.LVISEval.accumulate.__code__.co_names
    if 'float' in names and not hasattr(lvis_eval.np, 'float'):
        lvis_eval.np = _NumpyWithFloat('numpy')


class _NumpyWithFloat(types.ModuleType):
    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def resume_on_new_torch() -> None:
    """Let mmengine read its checkpoints with torch's `weights_only=True`.

    torch >= 2.6 rejects the `HistoryBuffer`s and numpy values in them:
    https://github.com/open-mmlab/mmengine/issues/1655. Allow-listing numpy's
    own classes would let a file run code (a dtype with forged flags turns
    bytes into object pointers), so their names are mapped to inert records
    here, which `safe_unpickle.restore` converts to values after checking them.
    torch.hub reads downloads (URLs, `torchvision://`, `open-mmlab://`) with
    `weights_only=False` by default; here it reads them with
    `weights_only=True`. onedl-mmengine falls back to `weights_only=False`; the
    fallback is removed. Older torch reads everything, including malicious
    files, and is not changed. Expires when mmengine resumes on torch >= 2.6
    and rejects malicious files.
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
                'A checkpoint must be a complete file that holds nothing but '
                f'tensors, numbers and text, got {filename} '
                f'({_explain(error)}). Copy or save it again, or use another '
                'one.'
            ) from error

    _wrap_loader(load)


def ignore_config_in_checkpoint() -> None:
    """Keep `Runner.resume` from executing the Python text in `meta.config`.

    It executes that text to read `gpu_ids`, a key that no mmengine release has
    written (they write `meta.cfg`). Not reported upstream; present in mmengine
    0.10.7 and onedl-mmengine 0.10.12. Expires when `resume` in
    mmengine/runner/runner.py does not call `fromstring`.
    """

    def load(load_upstream: Callable[[], Any], filename: str) -> Any:
        checkpoint = load_upstream()
        if isinstance(checkpoint, dict) and 'meta' in checkpoint:
            meta = checkpoint['meta']
            if isinstance(meta, dict) and 'config' in meta:
                del meta['config']  # not `pop`, which a file could override
        return checkpoint

    if 'fromstring' in Runner.resume.__code__.co_names:
        _wrap_loader(load)


def distribute_on_cpu() -> None:
    """Let `--launcher pytorch`, `slurm` and `mpi` train without CUDA.

    mmengine's `init_dist` always calls `torch.cuda.set_device`, its runner
    passes `device_ids` to the wrapper, and torch's SyncBN rejects CPU tensors
    in distributed runs. mmengine sets up the environment after it imports a
    config's `custom_imports`, so the patch is in time. With a GPU (or another
    accelerator) nothing is changed. Not reported upstream. Expires when
    mmengine's launchers support training on CPUs.
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
                f'is {synced[0]}, become BN, with separate statistics in each '
                'process.',
                logger='current',
                level=logging.WARNING,
            )
            module = revert_sync_batchnorm(module)
        upstream(self, module, *args, **{**kwargs, 'device_ids': None})

    return init


def _wrap_loader(load: Callable[[Callable[[], Any], str], Any]) -> None:
    """Wrap mmengine's checkpoint loader (file, http, torchvision) with
    `load`."""
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
    """Return whether an error is about a missing file, module or device, and
    not about the content of the file."""
    if isinstance(error, OSError):
        return error.errno != errno.EINVAL  # torch: truncated file
    if isinstance(error, RuntimeError):
        return bool(re.search('memory|CUDA|device', str(error)))
    return isinstance(error, ImportError)


def _explain(error: Exception) -> str:
    """Return the line of torch's long message that states the reason."""
    text = str(error)
    found = re.search(r'WeightsUnpickler error: (.+)', text)
    line = found.group(1) if found else text.partition('\n')[0]
    return line.partition(' was not an allowed')[0] or type(error).__name__
