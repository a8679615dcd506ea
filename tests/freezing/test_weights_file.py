"""Weights files are checked before they are used."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from mmfrozen.freezing.weights_file import check_file

KEY = 'model.backbone.init_cfg.checkpoint'


@pytest.fixture(params=['pth', 'safetensors', 'legacy.pth'])
def weights(request, tmp_path):
    path = tmp_path / f'weights.{request.param}'
    state = {'weight': torch.zeros(1000)}
    if request.param == 'safetensors':
        save_file(state, path)
    else:
        torch.save(
            state,
            path,
            _use_new_zipfile_serialization=(request.param == 'pth'),
        )
    return path


def named_by_hash(path, digest):
    return path.rename(path.with_name(f'net-{digest}{path.suffix}'))


def test_whole_file_is_taken(weights):
    check_file(str(weights), KEY)


def test_file_named_by_its_hash_is_taken(weights):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    check_file(str(named_by_hash(weights, digest)), KEY)


def test_file_named_by_another_hash_is_refused(weights):
    with pytest.raises(ValueError, match=f'{KEY} must have SHA-256 0a1b2c3d'):
        check_file(str(named_by_hash(weights, '0a1b2c3d')), KEY)


def test_date_in_a_name_is_no_hash(weights):
    check_file(str(named_by_hash(weights, '20220307')), KEY)


@pytest.mark.parametrize('weights', ['pth', 'safetensors'], indirect=True)
@pytest.mark.parametrize('size', [0, 100, 2000])
def test_cut_file_is_refused(weights, size):
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ValueError, match=f'{size} bytes.*truncated'):
        check_file(str(weights), KEY)


def test_page_saved_in_place_of_weights_is_refused(tmp_path):
    page = tmp_path / 'weights.pth'
    page.write_text('<html>not found</html>')
    with pytest.raises(ValueError, match='not a weights file'):
        check_file(str(page), KEY)


def test_missing_file_is_refused_with_its_key():
    with pytest.raises(FileNotFoundError, match=f"{KEY} must .*got 'a.pth'"):
        check_file('a.pth', KEY)
