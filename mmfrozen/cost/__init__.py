"""FLOP and byte counts of training steps; they need torch and mmcv only."""

from .flop_counter import FlopCounter as FlopCounter
from .flops import Flops as Flops
