"""A misspelt name is answered with the nearest one; advice fits."""

from pathlib import Path

import pytest
from mmdet.models import ResNet
from mmdet.registry import MODELS

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.errors import did_you_mean, remedy_for


def test_nearest_names_are_suggested_and_nothing_where_none_is_near():
    known = ('frozen', 'finetuned', 'scratch')
    assert did_you_mean('frozn', known) == " (did you mean 'frozen'?)"
    assert did_you_mean('xyz', known) == ''
    assert did_you_mean('frozen', ('frozem', 'frozzen'), count=2).count(' or ')


@pytest.mark.parametrize(
    ('cfg', 'nearest'),
    [
        (dict(type='AnySizeNASFPN', stak_times=3), 'stack_times'),
        (dict(type='AnySizeBiFPN', stak_times=3), 'stack_times'),
        (dict(type='SimpleFeaturePyramid', out_chanels=3), 'out_channels'),
        (
            dict(
                type='FrozenBackbone',
                backbone=dict(type='TimmBackbone', modelname='resnet18'),
            ),
            'model_name',
        ),
    ],
)
def test_misspelt_option_of_our_modules_is_refused(cfg, nearest):
    with pytest.raises(TypeError, match=f"did you mean '{nearest}'") as error:
        MODELS.build(cfg)
    assert '\n' not in str(error.value)


def test_misspelt_option_of_adapters_is_refused():
    cfg = dict(
        type='mmdet.FrozenBackbone',
        adapters=dict(reducton=4),
        backbone=dict(type='mmdet.ResNet', depth=18),
    )
    with pytest.raises(
        ValueError, match="got 'reducton' .did you mean 'reduction'"
    ):
        MODELS.build(cfg)


def raised(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError('nothing was raised')


def ask_for_fairscale():
    raise NotImplementedError('run pip install fairscale')


@pytest.mark.parametrize(
    ('action', 'advice'),
    [
        (lambda: __import__('no_such_package'), 'Install no_such_package'),
        (lambda: MODELS.build(dict(type='Nobodys')), 'custom_imports'),
        (lambda: Path('no/such.json').read_text(), 'in place of no/such.json'),
        (lambda: ResNet(depth=7), 'Correct the config'),
        (ask_for_fairscale, 'Install the package that'),
    ],
)
def test_advice_fits_the_kind_of_error(action, advice):
    assert advice in remedy_for(raised(action))
