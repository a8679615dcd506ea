"""Training loops that resume with the same batches and random numbers."""

from .train_loops import (
    ResumableEpochBasedTrainLoop as ResumableEpochBasedTrainLoop,
)
from .train_loops import (
    ResumableIterBasedTrainLoop as ResumableIterBasedTrainLoop,
)
