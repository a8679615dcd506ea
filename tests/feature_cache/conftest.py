"""A small config and its cache."""

import pytest

from mmfrozen.feature_cache import fill
from tests.hooks.conftest import unformatted as unformatted
from tests.tiny import tiny_config


@pytest.fixture
def config(tmp_path, mini_lvis, resnet18):
    """The tiny detector, whose images have views of 64 x 64."""
    return tiny_config(tmp_path / 'run', mini_lvis, resnet18)


@pytest.fixture(scope='module')
def cached(tmp_path_factory, mini_lvis, resnet18):
    """Its config and a cache with two views of each of four images."""
    folder = tmp_path_factory.mktemp('cache')
    config = tiny_config(folder / 'run', mini_lvis, resnet18)
    fill(config, folder / 'cache', views=2, storage='fp32', say=len)
    return config, folder / 'cache'
