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
    assert tops == {
        'mmfrozen',
        'mmfrozen.pth',
        'mmfrozen_cli',
        'mmfrozen_ext.py',
    }


def test_editable_wheel_has_the_line_that_python_reads_at_start(tmp_path):
    sys.path.insert(0, str(ROOT / 'build_tools'))
    try:
        import build_backend
    finally:
        sys.path.pop(0)

    def build(directory):
        with zipfile.ZipFile(Path(directory, 'x.whl'), 'w') as wheel:
            wheel.writestr('x.py', '')
            wheel.writestr('x-1.dist-info/RECORD', 'x.py,,\n')
        return 'x.whl'

    name = build_backend._with_pth(build, str(tmp_path), (), {})
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert wheel.testzip() is None
        line = wheel.read('mmfrozen.pth').decode()
        record = wheel.read('x-1.dist-info/RECORD').decode()
    assert line == 'import mmfrozen_ext; mmfrozen_ext.install()\n'
    assert record.startswith('mmfrozen.pth,sha256=')
    assert record.endswith('\nx.py,,\n')
