"""Stands in for Slurm's srun: notes its arguments, then starts the tasks."""

import json
import os
import subprocess
import sys
from pathlib import Path

folder = Path(__file__).resolve().parent
arguments = sys.argv[1:]
note = dict(arguments=arguments, port=os.environ.get('MASTER_PORT'))
(folder / 'srun.json').write_text(json.dumps(note))
if os.environ.get('FAKE_SRUN') == 'note':
    sys.exit()
options = dict(x.split('=', 1) for x in arguments if '=' in x)
command = arguments[arguments.index(sys.executable) :]
num_tasks = int(options['--ntasks'])
tasks = [
    subprocess.Popen(
        command,
        env=dict(
            os.environ,
            SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank),
            SLURM_NTASKS=str(num_tasks),
            SLURM_NODELIST='localhost',
        ),
    )
    for rank in range(num_tasks)
]
sys.exit(max(task.wait() for task in tasks))
