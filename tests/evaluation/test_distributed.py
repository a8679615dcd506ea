"""Two processes with uneven shards give what one process gives."""

import json
import logging
import os
from collections import OrderedDict

import numpy as np
import torch.distributed
import torch.multiprocessing
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub

from mmfrozen.evaluation import StratifiedCocoMetric, StratifiedLVISMetric

from .official import make_case
from .samples import data_samples

METRICS = {'lvis': StratifiedLVISMetric, 'coco': StratifiedCocoMetric}
IMAGES = 7  # odd: the sampler pads the second of two shards with an image


def evaluate(protocol, folder, shard, **options):
    """Evaluate the images of a shard; all processes get the metrics."""
    content, results = json.loads((folder / 'case.json').read_text())
    metric = METRICS[protocol](
        str(folder / 'gt.json'), ['bbox', 'segm'], resamples=3, **options
    )
    evaluator = Evaluator(metric)
    names = tuple(x['name'] for x in content['categories'])
    evaluator.dataset_meta = dict(classes=names)
    samples = list(data_samples(content, results))
    for index in shard:
        evaluator.process([samples[index]])
    metrics = evaluator.evaluate(IMAGES)
    return {k: None if v != v else v for k, v in metrics.items()}


def work(rank, folder):
    """Be one of two processes."""
    logging.disable(logging.WARNING)
    os.chdir(folder)  # MMDetection exchanges files in .dist_test
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    shard = list(DefaultSampler(range(IMAGES), shuffle=False))
    found = {'shard': shard}
    for protocol in METRICS:
        for device in ('cpu', 'gpu'):
            found[f'{protocol} {device}'] = evaluate(
                protocol,
                folder,
                shard,
                collect_device=device,
                strata_file=str(folder / 'two' / 'strata.json'),
            )
    found['empty'] = evaluate('coco', folder, [] if rank else shard)
    try:
        evaluate('coco', folder, [*shard, *shard])
    except ValueError as error:
        found['error'] = str(error)
    (folder / f'{rank}.json').write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_two_processes_with_uneven_shards_give_what_one_gives(
    tmp_path, monkeypatch
):
    # no run is going on here, whatever ran before in this process
    monkeypatch.setattr(MessageHub, '_instance_dict', OrderedDict())
    content, results = make_case(
        np.random.default_rng(3),
        images=IMAGES,
        categories=5,
        annotations=50,
        detections=200,
        levels=20,
    )
    (tmp_path / 'case.json').write_text(json.dumps([content, results]))
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    torch.multiprocessing.spawn(work, (tmp_path,), nprocs=2)
    first, second = (
        json.loads((tmp_path / f'{rank}.json').read_text()) for rank in (0, 1)
    )
    assert (first['shard'], second['shard']) == ([0, 2, 4, 6], [1, 3, 5, 0])
    for protocol in METRICS:
        alone = evaluate(
            protocol,
            tmp_path,
            range(IMAGES),
            strata_file=str(tmp_path / 'one' / 'strata.json'),
        )
        for device in ('cpu', 'gpu'):
            assert first[f'{protocol} {device}'] == alone
            assert second[f'{protocol} {device}'] == alone
    one, two = (
        json.loads((tmp_path / name / 'strata.json').read_text())
        for name in ('one', 'two')
    )
    assert one == two
    assert first['empty'] == second['empty'], 'a process without an image'
    # what stops one stops both
    assert 'images with unique ids' in first['error']
    assert first['error'] == second['error']
