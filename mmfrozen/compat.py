"""Gaps in upstream releases, closed at import: one function each.

Each function does nothing where upstream is fixed; its docstring says where
the gap is discussed and when the function can go.
"""

import contextlib
import errno
import functools
import pickle
import re
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from mmengine.utils import digit_version

_STATISTICS = ('min', 'max', 'current', 'mean')  # HistoryBuffer's own


def apply() -> None:
    """Close every gap. Calling it again changes nothing."""
    evaluate_lvis_on_new_numpy()
    resume_on_new_torch()
    ignore_config_in_checkpoint()  # last: it has to see restored values


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
    which `_restore` turns into values after checking them.
    onedl-mmengine falls back to `weights_only=False`; that is taken out.
    Older torch reads everything, hostile files too: nothing is done there.
    Expires when mmengine resumes on torch >= 2.6 and refuses hostile files.
    """
    if digit_version(torch.__version__) < digit_version('2.6.0'):
        return
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):  # onedl-mmengine
        mmengine_checkpoint._safe_torch_load = torch.load

    def load(load_upstream: Callable[[], Any], filename: str) -> Any:
        try:
            with _allow_records():
                return _restore(load_upstream())
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


class _Record:
    """What a checkpoint says about one object; holds it and does nothing.

    Its `build` makes the object; what has none is refused by `_restore`.
    """

    __hash__ = None  # no dict key, no set member: _restore looks at values

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Record):
    def build(self) -> np.dtype:
        """Numbers and text only: others hold pointers."""
        code, order = self.args[0], self.state[1]
        if not re.fullmatch(r'[biufcSU]\d+', code) or order not in '<>|=':
            raise pickle.UnpicklingError(f'numpy dtype {code}')
        return np.dtype(code).newbyteorder(order)


class _Scalar(_Record):
    def build(self) -> np.generic:
        dtype, data = self.args
        return np.frombuffer(data, dtype.build(), count=1)[0]


class _Array(_Record):
    def build(self) -> np.ndarray:
        _, shape, dtype, is_fortran, data = self.state
        array = np.frombuffer(data, dtype.build())
        return array.reshape(shape, order='F' if is_fortran else 'C').copy()


class _History(_Record):
    def build(self) -> HistoryBuffer:
        """Its statistics come from this process, never from the file."""
        return HistoryBuffer(
            self.state['_log_history'].build(),
            self.state['_count_history'].build(),
            max_length=self.state['max_length'],
        )


class _Config(_Record):
    def build(self) -> ConfigDict:
        return ConfigDict(_restore(self.args[0]))


class _Getattr(_Record):
    """`getattr(HistoryBuffer, 'mean')`, as the statistics are pickled."""

    def __init__(self, owner: Any, name: Any) -> None:
        if owner is not _History or name not in _STATISTICS:
            raise pickle.UnpicklingError(f'getattr({owner}, {name!r})')


def _make_no_bytes() -> bytes:
    return b''


@contextlib.contextmanager
def _allow_records() -> Iterator[None]:
    """Let the records, and no real class of the same name, be loaded."""
    records = _list_records()
    taken = {name for _, name in records}
    allowed = torch.serialization.get_safe_globals()
    others = [x for x in allowed if _get_name(x) not in taken]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(records + others)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


def _get_name(allowed: Any) -> str:
    if isinstance(allowed, tuple):  # (what is allowed, its name)
        return allowed[1]
    return f'{allowed.__module__}.{allowed.__qualname__}'


def _list_records() -> list[tuple[Any, str]]:
    """Pair each record with the name that it stands for in a checkpoint."""
    records = [
        (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_Config, 'mmengine.config.config.ConfigDict'),
        (_Getattr, 'builtins.getattr'),
        (_make_no_bytes, 'builtins.bytes'),  # how protocol 2 writes b''
        (_Dtype, 'numpy.dtype'),
        ('ndarray', 'numpy.ndarray'),  # an argument only, never called
    ]
    for core in ('numpy.core', 'numpy._core'):  # numpy 1 and 2
        records.append((_Array, f'{core}.multiarray._reconstruct'))
        records.append((_Scalar, f'{core}.multiarray.scalar'))
    # register_statistics: known here, so named there, but taken from here
    for method in HistoryBuffer._statistics_methods.values():
        if '.' not in method.__qualname__:
            name = f'{method.__module__}.{method.__qualname__}'
            records.append(('statistics', name))
    return records


def _restore(value: Any) -> Any:
    """Turn the records within dicts, lists and tuples into objects."""
    if isinstance(value, _Record):
        return value.build()
    if type(value) in (dict, OrderedDict):
        for key in value:
            value[key] = _restore(value[key])
    elif type(value) is list:
        value[:] = map(_restore, value)
    elif type(value) is tuple:
        return tuple(map(_restore, value))
    return value
