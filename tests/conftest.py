"""Data, weights and a clean registry that tests share."""

import logging
import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # run with `&`
    signal.signal(signal.SIGINT, signal.default_int_handler)
if 'PYTEST_XDIST_WORKER' in os.environ:  # a process a core: before torch
    os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest
import torch.distributed
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope

from mmfrozen.mini_lvis import Parameters
from mmfrozen.mini_lvis import build as build_mini_lvis

from .tiny import resnet18_weights

LEFT_BEHIND = (DefaultScope, MessageHub)


@pytest.fixture(autouse=True)
def scope():
    """A runner leaves its scope and its numbers to the tests after it, and a
    command may silence the log. Loggers keep the file and the captured stream
    of the test, or of the fixture, that made them."""
    MMLogger._instance_dict.clear()
    before = [(kind, dict(kind._instance_dict)) for kind in LEFT_BEHIND]
    yield
    for kind, instances in before:
        kind._instance_dict.clear()
        kind._instance_dict.update(instances)
    logging.disable(logging.NOTSET)


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


@pytest.fixture
def one_process(tmp_path):
    """A process group of one, as a distributed run has."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()
