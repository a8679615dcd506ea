"""An inference engine for frozen backbones in training; needs only torch."""

from .autocast import autocast_dtype as autocast_dtype
from .engine import FrozenEngine as FrozenEngine
from .variants import DTYPES as DTYPES
