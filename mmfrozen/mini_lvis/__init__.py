"""Mini-LVIS: a small long-tailed dataset in LVIS v1's layout, generated
offline."""

from .builder import Parameters as Parameters
from .builder import build as build
from .materials import load_category_names as load_category_names
from .preview import contact_sheet as contact_sheet
