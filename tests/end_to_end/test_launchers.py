"""Slurm and several machines: what is asked of them, and runs through it."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest

from mmfrozen import compat
from tests.tiny import ROOT

from .launch import MIM, finish, start

CONFIG = 'configs/frozen/mask_rcnn_r101_lvis.py'
TOOLS = Path(mmdet.__file__).parent / '.mim/tools'


def add_command(folder, name, text):
    """Put an executable on the PATH of a run."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return f'{folder}:{os.environ["PATH"]}'


@pytest.fixture
def slurm(tmp_path):
    """A folder with an srun that notes its arguments, and its PATH."""
    source = Path(__file__).with_name('fake_srun.py').read_text()
    add_command(
        tmp_path, 'scontrol', '#!/bin/sh\necho 127.0.0.1\n'
    )  # asked for the first host's name
    return add_command(tmp_path, 'srun', f'#!{sys.executable}\n{source}')


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def read_ranks(cfg):
    paths = sorted(Path(cfg.work_dir).glob('rank_*.json'))
    return [json.loads(path.read_text()) for path in paths]


def check_ranks(cfg):
    """Two processes, equal weights, a backbone that did not move."""
    first, second = read_ranks(cfg)
    assert all(
        first['after'][n] == second['after'][n] for n in first['in_buckets']
    )
    own = [n for n in first['before'] if n.startswith('backbone.')]
    assert all(first['before'][n] == first['after'][n] for n in own)


def test_slurm_is_asked_for_16_gpus_on_2_nodes(slurm, tmp_path):
    command = [MIM, 'train', 'mmdet', CONFIG, '--launcher', 'slurm']
    command += ['--partition', 'gpu', '--gpus', '16', '--gpus-per-node', '8']
    command += ['--srun-args', '--exclusive --time=3-0', '--port', '29999']
    command += ['--amp', '--work-dir', 'work_dirs/slurm']
    subprocess.run(
        command,
        cwd=ROOT,
        env=dict(os.environ, PATH=slurm, FAKE_SRUN='note'),
        check=True,
    )
    note = json.loads((tmp_path / 'srun.json').read_text())
    at = note['arguments'].index(sys.executable)
    assert note['arguments'][:at] == [
        *('-p', 'gpu', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8'),
        *('--cpus-per-task=2', '--kill-on-bad-exit=1'),
        *('--exclusive', '--time=3-0', '--job-name=mask_rcnn_r101_lvis_train'),
    ]
    assert note['arguments'][at + 1 :] == [
        *('-u', str(TOOLS / 'train.py'), CONFIG, '--launcher', 'slurm'),
        *('--amp', '--work-dir', 'work_dirs/slurm'),
    ]
    assert note['port'] == '29999'


def test_two_slurm_tasks_train_together(slurm, tmp_path, probed):
    status, output = finish(
        start(
            probed,
            tmp_path,
            *('--launcher', 'slurm', '--partition', 'cpu'),
            *('--gpus', '2', '--gpus-per-node', '2', '--srun-args', ' '),
            *('--port', free_port()),
            PATH=slurm,
        )
    )
    assert status == 0, output[-4000:]
    check_ranks(probed)


def test_two_nodes_train_together(tmp_path, probed):
    """Each runs `mim` with its own rank in torch's PET_ variables."""
    port = free_port()
    nodes = [
        start(
            probed,
            tmp_path,
            *('--launcher', 'pytorch', '--gpus', '1', '--port', port),
            PET_NNODES='2',
            PET_NODE_RANK=str(rank),
            PET_MASTER_ADDR='127.0.0.1',
        )
        for rank in range(2)
    ]
    for status, output in map(finish, nodes):
        assert status == 0, output[-4000:]
    check_ranks(probed)


def test_script_of_mmdetection_passes_node_and_address_on(tmp_path):
    path = add_command(
        tmp_path, 'python', '#!/bin/sh\nfor x; do echo "$x"; done\n'
    )
    run = subprocess.run(
        [shutil.which('bash'), TOOLS / 'dist_train.sh', CONFIG, '8', '--amp'],
        env=dict(
            os.environ,
            PATH=path,
            NNODES='2',
            NODE_RANK='1',
            MASTER_ADDR='node0',
            PORT='29501',
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [
        *('-m', 'torch.distributed.launch', '--nnodes=2', '--node_rank=1'),
        *('--master_addr=node0', '--nproc_per_node=8', '--master_port=29501'),
        *(str(TOOLS / 'train.py'), CONFIG, '--launcher', 'pytorch', '--amp'),
    ]


def test_nccl_without_a_gpu_is_refused_in_one_line():
    if compat.get_device() != 'cpu':
        pytest.skip('there is a GPU')
    from mmengine.dist import init_dist

    with pytest.raises(ValueError, match='dist_cfg.backend must be gloo'):
        init_dist('pytorch')
