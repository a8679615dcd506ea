"""Importing the package leaves the process of others as it was."""

import json
import subprocess
import sys

from tests.tiny import ROOT

# What a process has before and after; MMDetection is imported before, so
# that what it does itself is no part of the difference.
LOOK = """
import gc, json, signal, sys, warnings
import torch
import mmdet.apis, mmcv.ops, mmcv.transforms, mmengine.runner
import mmdet.datasets, mmdet.evaluation, mmdet.models, mmdet.engine
from mmengine.registry import Registry, root
import mmdet.registry

def registries():
    for module in (root, mmdet.registry):
        for name, value in vars(module).items():
            if isinstance(value, Registry):
                yield f'{module.__name__}.{name}', value

def look():
    return {
        'modules': {n: id(m) for n, m in sys.modules.items()},
        'build functions': {n: id(r.build_func) for n, r in registries()},
        'classes': {
            f'{n} {k}': id(c)
            for n, r in registries() for k, c in r.module_dict.items()
        },
        'collector': [gc.isenabled(), gc.get_freeze_count(),
                      *gc.get_threshold()],
        'threads': [torch.get_num_threads(),
                    torch.get_num_interop_threads()],
        'signals': [str(signal.getsignal(s)) for s in signal.valid_signals()],
        'warnings': len(warnings.filters),
        'dtype': str(torch.get_default_dtype()),
        'finders': [id(f) for f in sys.meta_path],
        'path': list(sys.path),
        'hooks': [id(sys.excepthook), id(sys.displayhook)],
    }

before = look()
import mmfrozen
after = look()
for part, was in before.items():
    if isinstance(was, dict):
        changed = [k for k, v in was.items() if after[part].get(k) != v]
    else:
        changed = [] if after[part] == was else [str((was, after[part]))]
    print(json.dumps([part, len(was) if isinstance(was, dict) else 1,
                      changed]))
"""


def test_what_a_process_had_before_the_import_is_there_after_it():
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', LOOK],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()[-11:]]
    assert len(rows) == 11
    seen = {part: count for part, count, _ in rows}
    assert seen['modules'] > 1000 and seen['classes'] > 500
    assert {part: changed for part, _, changed in rows if changed} == {}
