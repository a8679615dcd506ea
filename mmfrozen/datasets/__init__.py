"""MMDetection's data sets, checked before time is spent on them."""

from .checked import CheckedCocoDataset as CheckedCocoDataset
from .checked import CheckedLVISV1Dataset as CheckedLVISV1Dataset
from .images import check_images as check_images
from .images import image_fault as image_fault
