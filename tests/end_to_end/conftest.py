"""What launched runs share."""

import pytest

from tests.tiny import tiny_config


@pytest.fixture
def probed(tmp_path, mini_lvis, resnet18):
    """The tiny detector with a probe in it, for two processes on a CPU."""
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18)
    cfg.custom_imports.imports.append('tests.end_to_end.probe')
    cfg.custom_hooks.append(dict(type='ProbeHook'))
    cfg.find_unused_parameters = False
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    return cfg
