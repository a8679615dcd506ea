"""Every process finds `mmcv._ext`: compiled if it loads, else ours."""

import importlib.metadata
import importlib.util
import subprocess
import sys

import mmcv
import pytest

import mmfrozen_ext
from tests.tiny import ROOT

OPS = str(ROOT / 'mmfrozen/ops/__init__.py')
FINDER = mmfrozen_ext.MmcvExtFinder()


def run(code, **options):
    """Run Python in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def find(name, *folders):
    return FINDER.find_spec(name, [str(f) for f in folders])


def test_program_that_imports_mmdet_first_has_operators():
    code = (
        'import sys; from mmdet.apis import init_detector\n'
        'import mmcv._ext; print(mmcv._ext.__file__, "mmfrozen" in'
        ' sys.modules)'
    )
    ext, imported = run(code).splitlines()[-1].split()
    assert (ext == OPS) == (
        not mmfrozen_ext.is_compiled(sys.modules['mmcv._ext'])
    )
    assert imported == 'False'


def test_start_of_python_imports_nothing_heavy():
    code = (
        'import sys; print(*{"torch", "mmcv", "mmfrozen", "numpy"}'
        ' & set(sys.modules))'
    )
    assert run(code) == ''
    assert (
        run(
            'import mmfrozen_ext, sys; print(any(isinstance(f, '
            'mmfrozen_ext.MmcvExtFinder) for f in sys.meta_path))'
        )
        == 'True'
    )


def test_spawned_data_loader_workers_have_operators():
    code = (
        'import multiprocessing as mp\n'
        'if __name__ == "__main__":\n'
        '    with mp.get_context("spawn").Pool(1) as pool:\n'
        '        name = "mmdet.datasets.transforms"\n'
        '        import importlib\n'
        '        print(pool.apply(importlib.util.find_spec, (name,)).name)\n'
        "        print(pool.apply(eval, (\"__import__('mmcv.ops').ops.nms."
        '__name__",)))'
    )
    assert run(code).splitlines()[-1] == 'nms'


def test_install_twice_leaves_one_finder():
    before = list(sys.meta_path)
    mmfrozen_ext.install()
    mmfrozen_ext.install()
    assert sys.meta_path == before


def test_other_names_are_left_to_python(tmp_path):
    assert find('mmcv.ops', *mmcv.__path__) is None
    assert find('torch') is None


def test_stand_in_is_found_where_nothing_is_compiled(tmp_path):
    assert find('mmcv._ext', tmp_path).origin == OPS


def test_compiled_operators_that_load_are_preferred(tmp_path, monkeypatch):
    # any extension module stands for mmcv's own
    from hotcoco import hotcoco as compiled

    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / f'hotcoco{suffix}').symlink_to(compiled.__file__)
    spec = importlib.machinery.PathFinder.find_spec('hotcoco', [str(tmp_path)])
    with monkeypatch.context() as patch:
        patch.setattr(
            'importlib.machinery.PathFinder.find_spec', lambda *_: spec
        )
        found = find('mmcv._ext', tmp_path)
    assert found is None, 'left to Python'


def test_compiled_operators_that_do_not_load_are_replaced_with_a_line(
    tmp_path, capsys
):
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / f'_ext{suffix}').write_bytes(b'built for another torch')
    assert find('mmcv._ext', tmp_path).origin == OPS
    (line,) = capsys.readouterr().err.splitlines()
    assert "mmcv's compiled operators must be built for" in line
    assert str(tmp_path) in line and 'pip install mmcv-lite==2.1.0' in line


@pytest.mark.parametrize('version', ['1.7.2', '2.2.0'])
def test_other_mmcv_gets_one_line(monkeypatch, tmp_path, version):
    monkeypatch.setattr(mmcv, '__version__', version)
    with pytest.raises(ImportError) as error:
        find('mmcv._ext', tmp_path)
    assert f'got mmcv {version}. Run `pip uninstall' in str(error.value)
    assert '\n' not in str(error.value)


def test_mmcv_that_mmdet_refuses_gets_one_line_at_import():
    code = (
        'import mmcv; mmcv.__version__ = "2.2.0"\n'
        'try: import mmfrozen\n'
        'except ImportError as error: print(error)'
    )
    line = run(code)
    assert '2.2.0' in line and 'pip install mmcv-lite==2.1.0' in line
    assert '\n' not in line


def test_missing_torchvision_gets_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    with pytest.raises(ImportError) as error:
        find('mmcv._ext', tmp_path)
    assert 'torchvision must be installed and match torch' in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('missing', ['mmcv', 'mmdet'])
def test_missing_package_gets_one_line_at_import(missing):
    code = (
        f'import sys; sys.modules["{missing}"] = None\n'
        'try: import mmfrozen\n'
        'except ImportError as error: print(error)'
    )
    line = run(code)
    assert f'mmfrozen must find {missing}, got none' in line
    assert 'pip install' in line and '\n' not in line


def test_mmcv_and_mmcv_lite_over_one_another_get_one_line(
    monkeypatch, tmp_path, capsys
):
    for name in ('mmcv', 'mmcv_lite'):
        folder = tmp_path / f'{name}-2.1.0.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: 2.1.0\n'
        )
    monkeypatch.syspath_prepend(tmp_path)
    mmfrozen_ext.check()
    (line,) = capsys.readouterr().err.splitlines()
    assert 'got mmcv 2.1.0, mmcv-lite 2.1.0' in line
    assert 'pip install mmcv-lite==2.1.0' in line


def test_other_ranks_do_not_repeat_a_line(monkeypatch, capsys):
    monkeypatch.setenv('LOCAL_RANK', '1')
    mmfrozen_ext._say('once')
    assert capsys.readouterr().err == ''


def test_this_environment_has_one_mmcv():
    names = {d.metadata['Name'] for d in importlib.metadata.distributions()}
    assert len(names & {'mmcv', 'mmcv-lite'}) == 1
