"""MMDetection's registry, as a runner sets it."""

import pytest
from mmengine.registry import init_default_scope


@pytest.fixture(autouse=True)
def in_scope(scope):
    """Transforms are found under MMDetection's names."""
    init_default_scope('mmdet')
