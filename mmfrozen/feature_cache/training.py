"""This module makes a training step read cached features and data samples
instead of loading images and running the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..engine import autocast_dtype
from ..engine.weights import WeightsWatch
from ..seeds import seeded
from .store import FeatureStore


class CachedTraining:
    """Replacement of a detector's images by a cache, until it is removed.

    The data set returns places in the cache (shard and row) with data
    samples. The data preprocessor returns batches of the shape of images with
    NaN for pixels, so that a loss that reads pixels becomes NaN instead of
    silently wrong. The backbone's ``forward`` returns the features. Batches
    of images, as in validation, are processed as before.

    Args:
        model: The detector.
        dataset: Data set of the training loader.
        store: The cache.
        places: Shard and row of each view, from ``FeatureStore.places``.
        rows: Number of the image of each sample of the data set.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Any,
        store: FeatureStore,
        places: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        self._dataset = dataset
        self._before = vars(dataset).get('__getitems__')
        dataset.__getitems__ = _Views(store, places, rows)
        self._batch = _Batch(model, store)
        self._watch = WeightsWatch(model.backbone)
        self._parts = model.data_preprocessor, model.backbone
        for part, call in zip(
            self._parts, (self._batch.prepare, self._batch.run), strict=True
        ):
            part.forward = _Forward(part, call)

    def remove(self) -> None:
        """Restore the methods of data set, data preprocessor and backbone."""
        for part in self._parts:
            vars(part).pop('forward', None)
        if self._before is None:
            vars(self._dataset).pop('__getitems__', None)
        else:
            self._dataset.__getitems__ = self._before

    def check_weights(self) -> None:
        """Check that the features still belong to the backbone's weights.

        Raises:
            RuntimeError: If the weights of the backbone have changed.
        """
        if self._watch.is_stale():
            raise RuntimeError(
                'The weights of the backbone must stay those that the feature '
                'cache was filled with, got others during training. Remove '
                'FeatureCacheHook, or the hook that changes them.'
            )


class _Views:
    """Replacement of ``__getitems__`` of a data set.

    The view of a sample is drawn from the random numbers of its index, as
    the transforms of an image would be.
    """

    def __init__(
        self, store: FeatureStore, places: np.ndarray, rows: np.ndarray
    ) -> None:
        self._store, self._places, self._rows = store, places, rows

    def __call__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        samples = []
        for index in indices:
            views = self._places[self._rows[int(index)]]
            with seeded(index):
                place = views[np.random.randint(len(views))]
            samples.append(
                dict(
                    inputs=torch.from_numpy(place),
                    data_samples=self._store.sample(place),
                )
            )
        return samples


class _Batch:
    """Link between data preprocessor and backbone: it keeps the places of the
    current batch, whose features the backbone returns."""

    def __init__(self, model: nn.Module, store: FeatureStore) -> None:
        self._model, self._store = model, store
        self._places: Any = ()
        self._images = torch.empty(0)

    def prepare(
        self, plain: Callable[..., Any], data: Any, training: bool = False
    ) -> Any:
        """Replace the data preprocessor's ``forward``: return a batch with
        NaN for pixels, and keep its places for :meth:`run`."""
        inputs = data['inputs']
        if inputs[0].dim() != 1:
            return plain(data, training)
        if not training:
            raise ValueError(
                'Views of a feature cache must only be trained on, got a '
                'test. Test on images: views are augmented and have no pixels.'
            )
        preprocessor = self._model.data_preprocessor
        self._places = [place.tolist() for place in inputs]
        pixel = torch.full((1,), torch.nan, device=preprocessor.device)
        shape = len(inputs), *self._store.facts.image_shape
        self._images = pixel.expand(shape)
        samples = preprocessor.cast_data(data['data_samples'])
        return dict(inputs=self._images, data_samples=samples)

    def run(self, plain: Callable[..., Any], images: Tensor) -> Any:
        """Replace the backbone's ``forward``: return the cached features of
        the batch that :meth:`prepare` returned."""
        if (
            images.data_ptr() == self._images.data_ptr()
            and images.shape == self._images.shape
        ):
            device = images.device
            dtype = autocast_dtype(device.type) or torch.float32
            return self._store.features(self._places, device, dtype)
        if self._model.training:
            raise RuntimeError(
                'With FeatureCacheHook the backbone must get the batch as it '
                'leaves the data preprocessor, got another. Remove hooks that '
                'change batches, CUDAGraphHook among them.'
            )
        return plain(images)


class _Forward:
    """Replaced ``forward`` of one module; a copy of the module gets back the
    ``forward`` of its class."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        self._module, self._call = module, call
        self._plain = module.forward

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._call(self._plain, *args, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _own_forward, (self._module,)


def _own_forward(module: nn.Module) -> MethodType:
    return MethodType(type(module).forward, module)
