"""Transforms and dataset wrappers that MMDetection lacks, mainly for
copy-paste on long-tailed data."""

from .compact_masks import CompactMasks as CompactMasks
from .copy_paste import SimpleCopyPaste as SimpleCopyPaste
from .load_annotations import LoadCompactAnnotations as LoadCompactAnnotations
from .mix_dataset import CopyPasteDataset as CopyPasteDataset
from .object_bank import ObjectBank as ObjectBank
from .paste_sources import RareSources as RareSources
from .paste_sources import RepeatFactorSources as RepeatFactorSources
from .paste_sources import UniformSources as UniformSources
from .repeat_factor_dataset import (
    InstanceAwareRepeatFactorDataset as InstanceAwareRepeatFactorDataset,
)
from .seeded_sampler import NumberedSampler as NumberedSampler
