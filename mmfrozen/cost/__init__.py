"""FLOPs and bytes of training steps: plain torch and mmcv."""

from .flop_counter import FlopCounter as FlopCounter
from .flops import Flops as Flops
