"""What tests of hooks share."""

import mmengine.config.config as mmengine_config
import pytest

from tests.tiny import tiny_config


@pytest.fixture(autouse=True)
def unformatted(monkeypatch):
    """A tiny run spends half its time on laying out its config's text."""
    monkeypatch.setattr(
        mmengine_config,
        'FormatCode',
        lambda text, **_: (text, True),
        raising=False,  # the forks have no such name
    )


@pytest.fixture
def config(tmp_path, mini_lvis, resnet18):
    """The tiny detector."""
    return tiny_config(tmp_path / 'run', mini_lvis, resnet18)
