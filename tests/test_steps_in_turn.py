"""Two models step in turn: what is slow is measured, what is noise is not."""

import time

import pytest
import torch
from mmdet.registry import MODELS

from mmfrozen.models.batched.detector import BatchedTwoStageDetector
from mmfrozen.steps_in_turn import measure_in_turn
from tests.tiny import build, tiny_config

PAIRS, LATE = 3, 0.4


@MODELS.register_module()
class LateDetector(BatchedTwoStageDetector):
    """Takes longer for a step, by a known time."""

    def train_step(self, data, optim_wrapper):
        assert optim_wrapper.param_groups[0]['lr'] == 0
        time.sleep(LATE)
        return super().train_step(data, optim_wrapper)


@pytest.fixture
def pair(tmp_path, mini_lvis, resnet18):
    """Configs and checkpoints of the tiny run and its slower control."""
    configs, files = [], []
    for state in ('frozen', 'finetuned'):
        cfg = tiny_config(tmp_path / state, mini_lvis, resnet18, state)
        file = tmp_path / f'{state}.pth'
        torch.save(build(cfg).model.state_dict(), file)
        configs.append(cfg)
        files.append(file)
    configs[1].model.type = 'LateDetector'
    configs[1].custom_imports = dict(imports=[__name__])
    return tuple(configs), tuple(files)


def test_time_that_a_model_loses_is_found_and_the_engine_says_what_it_did(
    pair,
):
    configs, files = pair
    torch.randn(999, 999).sum()  # starts torch's threads in this process
    times = measure_in_turn(configs, files, num_pairs=PAIRS, engine=True)
    assert times.run.num == times.control.num == times.ratio.num == PAIRS
    assert times.control.lower > LATE
    assert times.ratio.upper < 1
    assert times.run.median < times.control.median
    assert 'backbone at 2 x 3 x' in times.engine
    assert times.images == 2
