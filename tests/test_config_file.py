"""Configs are found, loaded with options, and refused in one line."""

import pytest

from mmfrozen.config_file import load_config
from mmfrozen.config_path import find

DEMO = str(find('mask_rcnn_lite0_mini-lvis'))


@pytest.mark.parametrize(
    'text, message',
    (
        ('x = 1', 'must have a model, got .* without one'),
        ('model = (', 'must load in this environment, got SyntaxError'),
    ),
)
def test_broken_configs_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / 'broken.py'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_config(str(path))
    assert '\n' not in str(caught.value)


def test_options_change_the_config():
    options = {
        'model.neck.stack_times': 3,
        'train_dataloader.dataset.dataset.data_root': '/data',
        'default_hooks.engine.type': 'mmfrozen.FrozenEngineHook',
    }
    cfg = load_config(DEMO, options)
    assert cfg.model.neck.stack_times == 3
    assert cfg.train_dataloader.dataset.dataset.data_root == '/data'
    assert cfg.default_hooks.engine.type == 'mmfrozen.FrozenEngineHook'


@pytest.mark.parametrize(
    'key, message',
    (
        ('train_dataloadr.batch_size', "'train_dataloadr'.*train_dataloader"),
        ('model.neck.stack_time', r'model\.neck\.stack_time .*stack_times'),
        ('train_dataloader.dataset.dataset.dat_root', 'data_root'),
        ('train_dataloader.batch_size', 'train_dataloader.batch_size must be'),
    ),
)
def test_misspelt_and_impossible_options_are_refused(key, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_config(DEMO, {key: -1})
    assert '\n' not in str(caught.value)


def test_an_option_of_a_list_item_that_does_not_exist_is_refused():
    key = 'train_dataloader.dataset.dataset.pipeline.99.prob'
    with pytest.raises(ValueError, match='--cfg-options must fit the config'):
        load_config(DEMO, {key: 0.5})


def test_faults_that_the_config_had_before_the_options_are_tolerated(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "model = dict(type='RetinaNet')\ntrain_dataloadr = dict(batch_size=2)"
    )
    assert load_config(str(path), {'train_cfg.max_epochs': 2}).train_cfg
