"""Training loops that resume exactly."""

from .train_loops import (
    ResumableEpochBasedTrainLoop as ResumableEpochBasedTrainLoop,
)
from .train_loops import (
    ResumableIterBasedTrainLoop as ResumableIterBasedTrainLoop,
)
