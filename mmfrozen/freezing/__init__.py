"""Functions that freeze modules, inspect them and track their weights; they
need torch only."""

from .freeze_modules import freeze as freeze
from .freeze_modules import freeze_layers as freeze_layers
from .freeze_modules import freeze_matching as freeze_matching
from .freeze_modules import freeze_norm as freeze_norm
from .freeze_modules import freeze_stages as freeze_stages
from .freeze_modules import frozen_tensors as frozen_tensors
from .freeze_modules import is_kept_in_eval as is_kept_in_eval
from .freeze_modules import keep_in_eval as keep_in_eval
from .inspection import changed_tensors as changed_tensors
from .inspection import count_parameters as count_parameters
from .inspection import describe as describe
from .inspection import digest as digest
from .inspection import find_faults as find_faults
from .inspection import fingerprint as fingerprint
from .lean_checkpoint import REFERENCE as REFERENCE
from .lean_checkpoint import restore_backbone as restore_backbone
from .lean_checkpoint import strip_backbone as strip_backbone
from .load_recorder import LoadRecorder as LoadRecorder
from .load_recorder import checkpoint_of as checkpoint_of
from .load_recorder import is_output_norm as is_output_norm
from .load_recorder import is_pretrained as is_pretrained
from .stages import layer_names as layer_names
from .stages import num_stages as num_stages
from .stages import stage_numbers as stage_numbers
