import json
from pathlib import Path

import pytest

from mmfrozen.mini_lvis import Parameters, build

SMALL = Parameters(num_train=60, num_val=30, height=128, width=160, seed=3)


@pytest.fixture(scope='session')
def small_set(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('mini') / 'lvis_v1'
    assert build(root, SMALL)
    return root


@pytest.fixture(scope='session', params=['train', 'val'])
def content(small_set, request) -> dict:
    path = small_set / 'annotations' / f'lvis_v1_{request.param}.json'
    return json.loads(path.read_text())
