"""MMDetection's datasets with checks of annotations and images before
training."""

from .checked import CheckedCocoDataset as CheckedCocoDataset
from .checked import CheckedLVISV1Dataset as CheckedLVISV1Dataset
from .images import check_images as check_images
from .images import find_image_fault as find_image_fault
