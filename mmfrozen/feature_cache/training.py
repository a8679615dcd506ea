"""Training steps whose images are views of a cache."""

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
    """Puts a cache in the place of images, until it is removed.

    The data set's samples become places in the cache and data samples; the
    data preprocessor's batches have the shape of images, and NaN for pixels,
    so that nobody who looks at them goes on in silence; the backbone's
    ``forward`` returns the features. Batches of images, as validation has
    them, are treated as before.

    Args:
        model: The detector.
        dataset: Of the training loader.
        store: The cache.
        places: Of ``FeatureStore.places``.
        rows: Image of each sample of the data set.
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
        """Give everything back what it had."""
        for part in self._parts:
            vars(part).pop('forward', None)
        if self._before is None:
            vars(self._dataset).pop('__getitems__', None)
        else:
            self._dataset.__getitems__ = self._before

    def check_weights(self) -> None:
        """Refuse to go on with features of other weights.

        Raises:
            RuntimeError: If the weights of the backbone have changed.
        """
        if self._watch.is_stale():
            raise RuntimeError(
                'The weights of the backbone must stay those that the '
                'feature cache was filled with, got others while training. '
                'Remove FeatureCacheHook, or what changes them.'
            )


class _Views:
    """Takes the place of ``__getitems__`` of a data set.

    Which view a sample is follows from its draw, as the transforms of an
    image do.
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
    """Hands the features of a batch from the preprocessor to the backbone."""

    def __init__(self, model: nn.Module, store: FeatureStore) -> None:
        self._model, self._store = model, store
        self._places: Any = ()
        self._images = torch.empty(0)

    def prepare(
        self, plain: Callable[..., Any], data: Any, training: bool = False
    ) -> Any:
        """In place of the data preprocessor's ``forward``."""
        inputs = data['inputs']
        if inputs[0].dim() != 1:
            return plain(data, training)
        if not training:
            raise ValueError(
                'Views of a feature cache must be trained on, got a test. '
                'Test on images: they are augmented and have no pixels.'
            )
        preprocessor = self._model.data_preprocessor
        self._places = [place.tolist() for place in inputs]
        pixel = torch.full((1,), torch.nan, device=preprocessor.device)
        shape = len(inputs), *self._store.facts.image_shape
        self._images = pixel.expand(shape)
        samples = preprocessor.cast_data(data['data_samples'])
        return dict(inputs=self._images, data_samples=samples)

    def run(self, plain: Callable[..., Any], images: Tensor) -> Any:
        """In place of the backbone's ``forward``."""
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
                'leaves the data preprocessor, got another. Remove what '
                'changes batches, CUDAGraphHook too.'
            )
        return plain(images)


class _Forward:
    """A ``forward`` of one module; copies of the module have their own."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        self._module, self._call = module, call
        self._plain = module.forward

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._call(self._plain, *args, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _own_forward, (self._module,)


def _own_forward(module: nn.Module) -> MethodType:
    return MethodType(type(module).forward, module)
