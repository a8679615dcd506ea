"""Unpickling of mmengine's checkpoints without running code from them.

torch's `weights_only` unpickler builds inert records instead of the real
classes; `restore` checks their content and converts them to values.
"""

import contextlib
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

_STATISTICS = ('min', 'max', 'current', 'mean')  # HistoryBuffer's own


class _Record:
    """The pickled description of one object, without behaviour.

    Its `build` creates the object; `restore` fails for a record without
    `build`.
    """

    __hash__ = None  # never a key or set member: restore checks values

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Record):
    def build(self) -> np.dtype:
        """Build a dtype of numbers or text only, as others hold pointers."""
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
        """Build the buffer with this process's statistics, never the
        file's."""
        return HistoryBuffer(
            self.state['_log_history'].build(),
            self.state['_count_history'].build(),
            max_length=self.state['max_length'],
        )


class _Config(_Record):
    def build(self) -> ConfigDict:
        return ConfigDict(restore(self.args[0]))


class _Getattr(_Record):
    """A pickled `getattr(HistoryBuffer, 'mean')`, as used for the
    statistics."""

    def __init__(self, owner: Any, name: Any) -> None:
        if owner is not _History or name not in _STATISTICS:
            raise pickle.UnpicklingError(f'getattr({owner}, {name!r})')


def _make_no_bytes() -> bytes:
    return b''


@contextlib.contextmanager
def allow_records() -> Iterator[None]:
    """Allow only the records, not the real classes of the same names, in this
    context."""
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
    if isinstance(allowed, tuple):  # (object, its name)
        return allowed[1]
    return f'{allowed.__module__}.{allowed.__qualname__}'


def _list_records() -> list[tuple[Any, str]]:
    """Return pairs of each record and the pickled name that it replaces."""
    records = [
        (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_Config, 'mmengine.config.config.ConfigDict'),
        (_Getattr, 'builtins.getattr'),
        (_make_no_bytes, 'builtins.bytes'),  # b'' in protocol 2
        (_Dtype, 'numpy.dtype'),
        ('ndarray', 'numpy.ndarray'),  # an argument, never called
    ]
    for core in ('numpy.core', 'numpy._core'):  # numpy 1 and 2
        records.append((_Array, f'{core}.multiarray._reconstruct'))
        records.append((_Scalar, f'{core}.multiarray.scalar'))
    # Custom statistics of register_statistics: their names are accepted, but
    # the functions come from this process.
    for method in HistoryBuffer._statistics_methods.values():
        if '.' not in method.__qualname__:
            name = f'{method.__module__}.{method.__qualname__}'
            records.append(('statistics', name))
    return records


def restore(value: Any) -> Any:
    """Convert the records within dicts, lists and tuples to objects."""
    if isinstance(value, _Record):
        return value.build()
    if type(value) in (dict, OrderedDict):
        for key in value:
            value[key] = restore(value[key])
    elif type(value) is list:
        value[:] = map(restore, value)
    elif type(value) is tuple:
        return tuple(map(restore, value))
    return value
