"""Two processes of a run, forked from one that has imported everything."""

import multiprocessing
import os
import pickle
import sys
import traceback

import torch
import torch.distributed as dist


def in_two_processes(function, folder, *args, timeout=60):
    """Call `function(*args)` in two processes of one gloo group.

    Returns:
        For each rank what it returned, or the exception that it raised;
        None if it was killed.
    """
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=_run, args=(rank, function, folder, args))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
    alive = [p.exitcode is None for p in processes]
    for process in processes:
        process.kill()
    assert not any(alive), f'waits for ever: {alive}'
    files = [folder / f'{rank}.pkl' for rank in range(2)]
    return [
        pickle.loads(file.read_bytes()) if file.exists() else None
        for file in files
    ]


def _run(rank, function, folder, args):
    torch.set_num_threads(1)  # threads of the parent are not there
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/group', rank=rank, world_size=2
    )
    try:
        result = function(*args)
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        result = error
    (folder / f'{rank}.pkl').write_bytes(pickle.dumps(result))
    os._exit(0)
