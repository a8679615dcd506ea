"""What ``pip install .`` puts on a machine."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tiny import ROOT


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Names of the files in the built wheel."""
    folder = tmp_path_factory.mktemp('wheel')
    # a copy: setuptools leaves build/ and *.egg-info in the source tree
    source = folder / 'source'
    tracked = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    for name in tracked:
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            'wheel',
            '--quiet',
            '--no-deps',
            '--no-build-isolation',
            '--wheel-dir',
            folder,
            source,
        ],
        check=True,
    )
    with zipfile.ZipFile(next(folder.glob('*.whl'))) as archive:
        return set(archive.namelist())


def test_every_module_is_shipped(wheel):
    modules = {
        str(p.relative_to(ROOT)) for p in (ROOT / 'mmfrozen').rglob('*.py')
    }
    assert modules - wheel == set()


def test_every_config_is_shipped(wheel):
    configs = {
        f'mmfrozen/{p.relative_to(ROOT)}'
        for p in (ROOT / 'configs').rglob('*.py')
    }
    assert len(configs) > 10
    assert configs - wheel == set()


def test_materials_and_their_licences_are_shipped(wheel):
    materials = ROOT / 'mmfrozen/mini_lvis/materials'
    files = {str(p.relative_to(ROOT)) for p in materials.iterdir()}
    assert any(f.endswith('LICENSES.md') for f in files)
    assert files - wheel == set()


def test_tests_and_tools_are_not_shipped(wheel):
    tops = {Path(name).parts[0].split('-')[0] for name in wheel}
    assert tops == {'mmfrozen'}


def test_import_without_mmcv_says_what_to_install():
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            'import sys; sys.modules["mmcv"] = None; import mmfrozen',
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    line = done.stderr.splitlines()[-1]
    assert 'mmfrozen must find mmcv' in line and 'mim install' in line
