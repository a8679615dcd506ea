"""`mmfrozen cache` as a person types it."""

import json
import sys

import pytest

from mmfrozen_cli.cache import main
from tests.tiny import tiny_config


@pytest.fixture(scope='module')
def config(tmp_path_factory, mini_lvis, resnet18):
    folder = tmp_path_factory.mktemp('cache')
    cfg = tiny_config(folder / 'run', mini_lvis, resnet18)
    cfg.dump(folder / 'config.py')
    return folder / 'config.py'


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command: its exit status, results and other lines."""

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['mmfrozen cache', *map(str, args)])
        status = main()
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_a_cache_is_filled_looked_at_and_verified(config, call):
    folder = config.parent / 'cache'
    fill = 'fill', config, '--out', folder, '--storage', 'int8', '--views'
    status, out, err = call(*fill, 1)
    assert status == 0 and out.count('\n') == 1
    assert '4 of 4 views of 4 images' in out and '4 computed' in out
    assert 'bytes' in out and 'per view' in err
    status, out, _ = call(*fill, 1)
    assert status == 0 and '; 0 computed' in out
    status, out, _ = call('info', folder, '--json')
    record = json.loads(out)
    assert (record['images'], record['views']) == (4, 4)
    assert record['storage'] == 'int8'
    assert all(0 < x < 0.02 for x in record['max_error'])
    assert call('info', folder)[1].count('\n') == len(record)
    assert call('verify', folder)[:2] == (0, '1 of 1 shards are intact\n')
    [path] = folder.glob('*.safetensors')
    path.write_bytes(path.read_bytes()[:-1])
    status, out, err = call('verify', folder)
    assert (status, out) == (1, '0 of 1 shards are intact\n')
    assert err.count('damaged: ') == 1 and path.name in err


@pytest.mark.parametrize(
    'options, words',
    [
        (['--views', '0'], '--views must be 1 or more'),
        (['--views', '1', '--share', '5/4'], '--share must be I/N'),
        (['--views', '1', '--max-bytes', 'many'], '--max-bytes must be'),
        (['--views', '1', '--cfg-options', 'model.type=X'], 'must be built'),
        (
            ['--views', '1', '--cfg-options', 'model.backbone=None'],
            'model.backbone must be a dict',
        ),
    ],
)
def test_wrong_use_is_one_line(config, call, tmp_path, options, words):
    status, out, err = call('fill', config, '--out', tmp_path / 'x', *options)
    [line] = [x for x in err.splitlines() if x.startswith('error: ')]
    assert status == 2 and out == '' and words in line
    assert not list(tmp_path.glob('x/*'))


def test_a_config_that_does_not_load_is_one_line(call, tmp_path):
    (tmp_path / 'x.py').write_text('model = dict(')
    status, out, err = call(
        'fill', tmp_path / 'x.py', '--out', tmp_path, '--views', 1
    )
    assert (status, out) == (2, '') and 'A config must load' in err


def test_a_folder_that_is_no_cache_is_said(call, tmp_path):
    status, out, err = call('info', tmp_path)
    assert (status, out) == (2, '') and 'must be a folder with' in err
    assert call('verify', tmp_path)[0] == 2


def test_advise_is_the_command_cache_advice(config, call):
    options = '--no-measure', '--json', '--folder', config.parent
    status, out, err = call('advise', config, *options)
    assert status == 0, err
    assert json.loads(out)['view_bytes'] > 0
