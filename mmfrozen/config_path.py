"""Print where a config of the pack is, installed or in a clone.

python -m mmfrozen.config_path mask_rcnn_r101_lvis.py
python -m mmfrozen.config_path finetuned/mask_rcnn_r101_lvis.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from .errors import did_you_mean

HERE = Path(__file__).resolve().parent
#: configs/ is installed as mmfrozen/configs; in a clone it is a sibling.
ROOT = next(
    (p for p in (HERE / 'configs', HERE.parent / 'configs') if p.is_dir()),
    HERE / 'configs',
)


def find(name: str) -> Path:
    """Return the path of a config; a name without a folder is in frozen/.

    Raises:
        FileNotFoundError: If there is none.
    """
    wanted = Path(name).with_suffix('.py')
    if wanted.parent == Path():
        wanted = 'frozen' / wanted
    if (ROOT / wanted).is_file():
        return ROOT / wanted
    known = [
        str(path.relative_to(ROOT))
        for path in ROOT.glob('*/*.py')
        if not path.name.startswith('_')
    ]
    raise FileNotFoundError(
        f'NAME must be a config of the pack, got {name!r}'
        f'{did_you_mean(wanted, known, count=3)}. configs/README.md lists all.'
    )


def main() -> int:
    """Run as a program."""
    if len(sys.argv) != 2 or sys.argv[1] in ('-h', '--help'):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        print(find(sys.argv[1]))
    except FileNotFoundError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
