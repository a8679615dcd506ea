"""A frozen backbone as an inference engine inside training: plain torch."""

from .autocast import autocast_dtype as autocast_dtype
from .engine import FrozenEngine as FrozenEngine
from .ways import DTYPES as DTYPES
