"""Store what compiled mmcv 2.1.0 computes, for comparison.

make setup MMCV=compiled VENV=.venv-compiled
.venv-compiled/bin/python -m tests.ops.record
"""

from __future__ import annotations

import sys
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmcv import _ext

import mmfrozen_ext

from .cases import CASES

FILE = Path(__file__).with_name('recorded.npz')


def main() -> int:
    """Run as a program."""
    if not mmfrozen_ext.is_compiled(_ext) or mmcv.__version__ != '2.1.0':
        print(
            'error: mmcv 2.1.0 must have compiled operators, got '
            f'{mmcv.__version__} with {_ext.__file__}. Run `make setup '
            'MMCV=compiled VENV=.venv-compiled`.',
            file=sys.stderr,
        )
        return 2
    torch.set_num_threads(1)
    arrays = {
        f'{case}/{name}': tensor.numpy()
        for case, compute in CASES.items()
        for name, tensor in compute().items()
    }
    versions = f'torch {torch.__version__}, mmcv {mmcv.__version__}'
    np.savez_compressed(FILE, versions=np.array(versions), **arrays)
    size = FILE.stat().st_size // 1024
    print(f'{len(CASES)} cases, {len(arrays)} arrays, {size} KiB: {versions}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
