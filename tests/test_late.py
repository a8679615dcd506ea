"""Modules that are not there before they are used."""

import importlib
import subprocess
import sys

import pytest

from mmfrozen.late import LateModule, imported_late
from tests.tiny import ROOT


@pytest.fixture
def heavy(tmp_path, monkeypatch):
    """A module, and one that imports it."""
    (tmp_path / 'heavy.py').write_text('def double(x):\n    return 2 * x\n')
    (tmp_path / 'user.py').write_text(
        'import heavy\nfrom heavy import double\nresult = lambda: double(4)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ('heavy', 'user'):
        sys.modules.pop(name, None)


def test_function_that_was_imported_late_is_the_modules_own(heavy):
    with imported_late('heavy', ['double']):
        user = importlib.import_module('user')
        assert isinstance(user.heavy, LateModule)
    assert 'heavy' not in sys.modules
    assert user.result() == user.heavy.double(4) == 8
    assert not isinstance(sys.modules['heavy'], LateModule)


def test_what_is_asked_for_at_once_is_imported_at_once(heavy):
    with imported_late('heavy'):
        user = importlib.import_module('user')
        assert user.double is sys.modules['heavy'].double


def test_module_that_is_there_stays_what_it_is(heavy):
    there = importlib.import_module('heavy')
    with imported_late('heavy', ['double']):
        assert importlib.import_module('user').heavy is there
    assert sys.modules['heavy'] is there


def test_missing_module_is_an_error_when_something_of_it_is_asked_for():
    late = LateModule('there_is_no_such_module')
    with pytest.raises(ModuleNotFoundError, match='there_is_no_such_module'):
        late.anything  # noqa: B018


def test_package_comes_without_what_few_use_and_the_host_still_has_it():
    code = (
        'import sys, mmfrozen\n'
        'heavy = "timm", "matplotlib.pyplot", "scipy.optimize"\n'
        'print(*(name in sys.modules for name in heavy))\n'
        'from mmdet.models.task_modules.assigners import hungarian_assigner\n'
        'match = hungarian_assigner.linear_sum_assignment\n'
        'print(*match([[1.0, 0.0], [0.0, 1.0]])[1])\n'
        'import lvis.vis, matplotlib.pyplot\n'
        'print(lvis.vis.plt.figure is matplotlib.pyplot.figure)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split('\n')[:3] == ['False False False', '1 0', 'True']
