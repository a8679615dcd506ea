"""A config is found by its name from anywhere."""

import shutil
import subprocess
import sys

import pytest

from mmfrozen.config_path import find
from tests.tiny import ROOT


def ask(*args, cwd):
    return subprocess.run(
        [sys.executable, '-m', 'mmfrozen.config_path', *args],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_path_is_printed_alone_so_that_a_shell_can_use_it(tmp_path):
    done = ask('mask_rcnn_r101_lvis.py', cwd=tmp_path)
    expected = ROOT / 'configs/frozen/mask_rcnn_r101_lvis.py'
    assert (done.returncode, done.stdout) == (0, f'{expected}\n')


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('mask_rcnn_r101_lvis', 'frozen/mask_rcnn_r101_lvis.py'),
        ('scratch/mask_rcnn_r101_lvis.py', 'scratch/mask_rcnn_r101_lvis.py'),
    ],
)
def test_folder_is_the_state_and_frozen_by_default(name, path):
    assert find(name) == ROOT / 'configs' / path


def test_name_that_is_not_there_is_answered_with_the_nearest(tmp_path):
    done = ask('mask_rcn_r101_lvis.py', cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert "did you mean 'frozen/mask_rcnn_r101_lvis.py'" in done.stderr


def test_installed_pack_is_found_inside_the_package(tmp_path):
    package = tmp_path / 'mmfrozen'  # as a wheel lays it
    shutil.copytree(ROOT / 'configs', package / 'configs')
    for name in ('config_path.py', 'errors.py'):
        shutil.copy(ROOT / 'mmfrozen' / name, package)
    (package / '__init__.py').touch()
    done = ask('mask_rcnn_r101_lvis', cwd=tmp_path)
    expected = package / 'configs/frozen/mask_rcnn_r101_lvis.py'
    assert done.stdout == f'{expected}\n'
