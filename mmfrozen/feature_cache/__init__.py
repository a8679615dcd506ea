"""This package caches the features of a frozen backbone on disk, so that
training does not recompute them for the same augmented view."""

from .fill import Filled as Filled
from .fill import fill as fill
from .images import Images as Images
from .key import FORMAT as FORMAT
from .key import check_unchanging as check_unchanging
from .key import key_of as key_of
from .store import FeatureStore as FeatureStore
from .training import CachedTraining as CachedTraining
