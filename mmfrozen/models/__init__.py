"""Backbones, necks and heads that the host lacks."""

from mmdet import registry as host
from mmengine import registry as root

from . import backbones as backbones
from . import heads as heads
from . import necks as necks
from .building import check_builds

# the runner builds with the root's, and those go on with the host's
for registry in (host.MODELS, host.TASK_UTILS, root.MODELS, root.TASK_UTILS):
    check_builds(registry)
