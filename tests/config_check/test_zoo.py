"""MMDetection's own configs have no faults but those that stop them."""

from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.config_check.check import faults

ZOO = Path(mmdet.__file__).parent / '.mim/configs'
#: Of a package that is not installed; of a class that MMDetection has not.
KNOWN = ("'mmpretrain.", "'MOTChallengeMetrics'")


@pytest.mark.zoo
def test_no_config_of_the_zoo_is_refused_that_can_be_built():
    checked = 0
    for path in ZOO.rglob('*.py'):
        if '_base_' in path.parts:
            continue
        try:
            cfg = Config.fromfile(path)
        except (FileNotFoundError, ImportError):  # of MMPretrain, or nobody's
            continue
        with DefaultScope.overwrite_default_scope('mmdet'):
            wrong = [str(fault) for fault in faults(cfg)]
        assert all(any(k in one for k in KNOWN) for one in wrong), (
            path,
            wrong,
        )
        checked += 1
    assert checked > 800
