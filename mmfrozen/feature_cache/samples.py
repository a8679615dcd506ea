"""This module encodes data samples as msgpack, which unlike pickle runs no
code when a cache of unknown origin is read."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor

from ..mask_crops import Crop
from ..transforms import CompactMasks

ELEMENTS = {
    kind.__name__: kind for kind in (DetDataSample, InstanceData, PixelData)
}
DTYPES = {
    str(dtype).removeprefix('torch.'): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )
}


def encode(sample: Any) -> bytes:
    """Return a data sample as bytes; masks as crops with one bit per pixel.

    Raises:
        ValueError: If it holds anything but numbers, text and bitmap masks.
    """
    return msgspec.msgpack.encode(_plain(sample))


def decode(content: bytes) -> Any:
    """Return the data sample in encoded bytes; masks are ``CompactMasks``.

    Raises:
        ValueError: If :func:`encode` cannot have written the bytes.
    """
    try:
        return _built(msgspec.msgpack.decode(content))
    except (
        msgspec.MsgspecError,
        LookupError,
        RecursionError,
        RuntimeError,
        TypeError,
        AttributeError,
    ) as error:
        raise ValueError(f'no data sample: {error}') from error


def _plain(value: Any) -> Any:
    """Return a value as msgpack types.

    A container becomes ``[kind, content]``, since msgpack does not distinguish
    tuples from lists.
    """
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        kind = 'tuple' if isinstance(value, tuple) else 'list'
        return [kind, [_plain(x) for x in value]]
    if isinstance(value, dict):
        return ['dict', {str(k): _plain(x) for k, x in value.items()}]
    if isinstance(value, np.ndarray):
        return ['array', _plain(torch.from_numpy(value))]
    if isinstance(value, BitmapMasks):
        return ['masks', *_plain_masks(CompactMasks.of(value))]
    if type(value) is Tensor:
        value = value.detach().cpu().contiguous()
        content = b''
        if value.numel():
            content = value.reshape(-1).view(torch.uint8).numpy().tobytes()
        dtype = str(value.dtype).removeprefix('torch.')
        return ['tensor', dtype, list(value.shape), content]
    if type(value).__name__ in ELEMENTS:
        fields = [
            {name: _plain(x) for name, x in sorted(items)}
            for items in (value.metainfo_items(), value.items())
        ]
        return ['element', type(value).__name__, *fields]
    raise ValueError(
        'A view must have data samples of numbers, text and bitmap masks, got '
        f'{type(value).__name__}. Load masks with poly2mask=True, and remove '
        'other keys from meta_keys.'
    )


def _built(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    kind, *content = value
    if kind in ('tuple', 'list'):
        items = [_built(x) for x in content[0]]
        return tuple(items) if kind == 'tuple' else items
    if kind == 'dict':
        return {k: _built(x) for k, x in content[0].items()}
    if kind == 'array':
        return _built(content[0]).numpy()
    if kind == 'masks':
        return _built_masks(*content)
    if kind == 'tensor':
        dtype, shape, data = content
        empty = torch.empty(0, dtype=DTYPES[dtype])
        if data:
            empty = torch.frombuffer(bytearray(data), dtype=DTYPES[dtype])
        return empty.reshape(shape)
    name, metainfo, fields = content
    element: BaseDataElement = ELEMENTS[name](
        metainfo={k: _built(x) for k, x in metainfo.items()}
    )
    for field, x in fields.items():
        if hasattr(element, field) and not _is_property(element, field):
            raise ValueError(f'{field!r} is not a field of {name}')
        setattr(element, field, _built(x))
    return element


def _is_property(element: BaseDataElement, name: str) -> bool:
    return isinstance(getattr(type(element), name, None), property)


def _plain_masks(masks: CompactMasks) -> list[Any]:
    crops = masks.crops
    places = [[c.x, c.y, *c.bitmap.shape] for c in crops]
    bits = [np.zeros(0, np.uint8), *(c.bitmap.ravel() for c in crops)]
    packed = np.packbits(np.concatenate(bits)).tobytes()
    return [masks.height, masks.width, places, packed]


def _built_masks(
    height: int, width: int, places: list[list[int]], packed: bytes
) -> CompactMasks:
    sizes = [h * w for _, _, h, w in places]
    if len(packed) != -(-sum(sizes) // 8) or any(
        min(x, y, h, w) < 0 or x + w > width or y + h > height
        for x, y, h, w in places
    ):
        raise ValueError('masks that do not fit')
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=sum(sizes))
    parts = np.split(bits, np.cumsum(sizes)[:-1]) if sizes else []
    crops = [
        Crop(x, y, part.reshape(h, w))
        for (x, y, h, w), part in zip(places, parts, strict=True)
    ]
    return CompactMasks(crops, height, width)
