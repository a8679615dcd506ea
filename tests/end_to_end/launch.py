"""Start `mim train` as a user does, in as many processes as asked."""

import os
import subprocess
import sys
from pathlib import Path

from tests.tiny import ROOT

MIM = Path(sys.executable).with_name('mim')


def start(cfg, folder, *options, **variables):
    """Start `mim train` on a config; its output is one stream."""
    path = folder / 'config.py'
    cfg.dump(path)
    return subprocess.Popen(
        [MIM, 'train', 'mmdet', path, *options],
        cwd=ROOT,
        env=dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            OMP_NUM_THREADS='1',
            **variables,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    """Wait; return the exit status and what was printed."""
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    return process.returncode, output
