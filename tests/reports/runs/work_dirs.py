"""Work dirs as runs leave them, made by hand."""

import json
from dataclasses import asdict, replace

from mmfrozen.cost import Flops
from mmfrozen.run_files import Spread, StepCost, StepFlops, StepMemory

COST = StepCost(
    config='mask_rcnn_r101_lvis',
    begin_iter=0,
    end_iter=100,
    iters_per_epoch=10,
    batch_shape=(2, 64, 96),
    num_batch_shapes=1,
    dtype='float32',
    device='a GPU',
    world_size=2,
    accumulative_counts=1,
    seed=0,
    versions={'torch': '2.14.1'},
    timer='CUDA events',
    num_steps=90,
    seconds={
        'data': Spread(0.1, 0.1, 0.2, 90),
        'backward': Spread(0.2, 0.3, 0.4, 90),
        'step': Spread(0.3, 0.4, 0.6, 90),
    },
    memory=StepMemory(2**31, 2**32, 2**30, 2**31),
    joules_per_step=100.0,
    flops=StepFlops(
        6,
        (2, 64, 96),
        {'backbone': Flops(4, 2, 1), 'neck': Flops(40, 20, 10)},
        {'add': 3},
    ),
    notes={},
)
HALF = replace(
    COST,
    seconds={'step': Spread(0.1, 0.2, 0.3, 90)},
    memory=StepMemory(2**30, 2**31, 2**30, 2**31),
    joules_per_step=None,
)


def step(at, loss=1.0, seconds=2.0, **more):
    """A line about training."""
    return dict(loss=loss, time=seconds, iter=at, step=at, **more)


def evaluation(at, ap, **more):
    """A line about an evaluation."""
    return {'lvis/bbox_AP': ap, 'time': 9.0, 'step': at, **more}


def drift(at, moved):
    """An entry of drift.json."""
    stage = dict(
        num_tensors=2,
        num_changed=2,
        relative_l2=moved,
        cosine=1.0,
        statistics_relative_l2=None,
    )
    return dict(
        iter=at, epoch=0, reference='a', stages={'l1': stage, 'all': stage}
    )


def write_run(folder, *starts, state=None, costs=(), drifts=(), config=None):
    """Write what is given, and nothing else.

    Args:
        folder: The work dir.
        starts: Lines of the log of each start of the run.
        state: For backbone.json.
        costs: Entries of step_cost.json.
        drifts: Entries of drift.json.
        config: Name of the config that MMDetection leaves there.
    """
    for i, lines in enumerate(starts):
        log = folder / f'2026010{i}_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    if state:
        counts = dict(total=20, trainable=20 - 10 * (state == 'frozen'))
        (folder / 'backbone.json').write_text(
            json.dumps(
                dict(
                    state=state,
                    backbone_type='ResNet',
                    classifier='r.pth',
                    backbone=counts,
                    model=counts,
                    verified_iter=None,
                )
            )
        )
    if costs:
        (folder / 'step_cost.json').write_text(
            json.dumps([asdict(cost) for cost in costs])
        )
    if drifts:
        (folder / 'drift.json').write_text(json.dumps(list(drifts)))
    if config:
        (folder / f'{config}.py').write_text('')
    return folder
