"""Every command of docs/own_data.md, in its order, with shorter training."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from PIL import Image

from tests.tiny import ROOT

STEPS = 4
SHORTER = (
    f'--cfg-options train_cfg.max_iters={STEPS} '
    f'train_cfg.val_interval={STEPS} val_dataloader.dataset.indices=2'
)


def parts(text):
    """What the page says to type and to write, in its order."""
    found = re.finditer(
        r'```python\n# (?P<name>\S+)\n(?P<code>.*?)```'
        r'|(?P<shell>(?:^ {4}[^\n]*\n)+)',
        text,
        re.MULTILINE | re.DOTALL,
    )
    return [part.groupdict() for part in found]


def test_a_reader_goes_from_xml_to_a_prediction(tmp_path):
    page = (ROOT / 'docs/own_data.md').read_text()
    page = page.replace('iter_350.pth', f'iter_{STEPS}.pth')
    environment = dict(
        os.environ,
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        PYTHONPATH=str(ROOT),
    )
    for part in parts(page):
        if part['name']:
            (tmp_path / part['name']).write_text(part['code'])
            continue
        commands = textwrap.dedent(part['shell'])
        commands = re.sub('(mmfrozen pair .*)', rf'\1 {SHORTER}', commands)
        done = subprocess.run(
            ['bash', '-euc', commands],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, commands + done.stdout + done.stderr

    annotated = {
        name: json.loads((tmp_path / f'data/trees/{name}.json').read_text())
        for name in ('train', 'val')
    }
    names = [
        {image['file_name'] for image in split['images']}
        for split in annotated.values()
    ]
    assert not names[0] & names[1], 'no tile is in both'
    runs = tmp_path / 'work_dirs'
    for state in ('frozen', 'finetuned'):
        written = runs / state / 'faster_rcnn_lite0_own/backbone.json'
        assert json.loads(written.read_text())['state'] == state
    assert 'tree' in (tmp_path / 'strata.html').read_text()
    with Image.open(tmp_path / 'predicted/vis/SOAP_031.png') as picture:
        assert picture.size == (400, 400)
