"""Data, weights and a clean registry that tests share."""

import pytest
from mmengine.registry import DefaultScope

from mmfrozen.mini_lvis import Parameters
from mmfrozen.mini_lvis import build as build_mini_lvis

from .tiny import resnet18_weights


@pytest.fixture(autouse=True)
def scope():
    """A runner leaves its registry scope behind for the tests after it."""
    scopes = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


@pytest.fixture(scope='session')
def mini_lvis(tmp_path_factory):
    """A small mini-LVIS: 24 training and 8 validation images."""
    root = tmp_path_factory.mktemp('data') / 'lvis_v1'
    build_mini_lvis(
        root, Parameters(num_train=24, num_val=8, height=96, width=128)
    )
    return root


@pytest.fixture(scope='session')
def resnet18(tmp_path_factory):
    """A ResNet-18 checkpoint in torchvision's layout."""
    return resnet18_weights(tmp_path_factory.mktemp('weights'))
