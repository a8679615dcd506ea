"""Data flows one way: who may import whom."""

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'mmfrozen'
SHARED = {
    'annotation_faults',
    'atomic_write',
    'categories',
    'compat',
    'config_check',
    'config_file',
    'cost',
    'empty_weights',
    'engine',
    'errors',
    'fit',
    'freezing',
    'gc_paused',
    'lock',
    'mask_crops',
    'memory_limit',
    'ops',
    'options',
    'pairing',
    'registry',
    'run_files',
    'seeds',
    'type_names',
    'version',
}
#: Parts that may not import one another.
PARTS = {
    'cache_advice',
    'models',
    'datasets',
    'transforms',
    'evaluation',
    'feature_cache',
    'freeze_config',
    'hooks',
    'loops',
    'optim',
    'tracing',
    'reports',
    'mini_lvis',
}
#: A cache stores masks as crops, and a hook trains on it. Tracing freezes the
#: config that it is given, and gives batched heads numbers to decide on.
#: Advice on a cache traces, takes steps, and depends on how a cache stores
#: features. Reports read what the others wrote, with the means that wrote it.
READS = {
    'feature_cache': {'transforms'},
    'hooks': {'feature_cache'},
    'cache_advice': {
        'feature_cache',
        'freeze_config',
        'steps_in_turn',
        'tracing',
    },
    'tracing': {'freeze_config', 'models'},
    'reports': {'cache_advice', 'evaluation', 'freeze_config', 'tracing'},
}


def imported(file):
    """Parts of mmfrozen that a file imports, and other top packages."""
    inside = file.relative_to(PACKAGE).parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = inside[: len(inside) - node.level]
            names = (
                [node.module]
                if node.module
                else [alias.name for alias in node.names]
            )
            for name in names:
                yield (*base, *name.split('.'))[0], True
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split('.')[0], False
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split('.')[0], False


def test_parts_import_only_what_they_share_and_nothing_above_them():
    files = [
        f
        for f in PACKAGE.rglob('*.py')
        if f.parent != PACKAGE or f.stem in PARTS
    ]
    assert len(files) > 15
    for file in files:
        part = file.relative_to(PACKAGE).parts[0].removesuffix('.py')
        for name, ours in imported(file):
            if ours:
                allowed = SHARED | {part} | READS.get(part, set())
                assert name in allowed, f'{file} imports {name}'
            else:
                others = ('mmfrozen', 'tools', 'configs', 'tests')
                assert name not in others, f'{file} imports {name}'


def test_shared_modules_do_not_need_mmdetection():
    for name in SHARED - {
        'compat',
        'cost',
        'ops',
        'fit',
        'registry',
        'config_check',
        'config_file',
    }:
        folder = PACKAGE / name
        files = (
            [*folder.rglob('*.py')]
            if folder.is_dir()
            else [folder.with_suffix('.py')]
        )
        for file in files:
            tops = {top for top, _ in imported(file)}
            assert not tops & {'mmdet', 'mmcv', 'mmengine', 'timm'}, file


def test_cost_knows_operators_but_no_detectors():
    files = list((PACKAGE / 'cost').glob('*.py'))
    assert files
    for file in files:
        tops = {top for top, _ in imported(file)}
        assert not tops & {'mmdet', 'mmengine', 'timm'}, file


def test_operators_run_while_mmcv_is_being_imported():
    files = list((PACKAGE / 'ops').glob('*.py'))
    assert len(files) > 5
    allowed = {
        'torch',
        'torchvision',
        'numpy',
        'ops',
        *sys.stdlib_module_names,
    }
    for file in files:
        assert {top for top, _ in imported(file)} <= allowed, file
