"""A hook that trains a detector on cached features instead of images."""

from __future__ import annotations

from typing import Any

import psutil
from mmdet.engine.hooks import PipelineSwitchHook, YOLOXModeSwitchHook
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..errors import require
from ..feature_cache import (
    CachedTraining,
    FeatureStore,
    Images,
    check_unchanging,
    key_of,
)
from ..feature_cache.forward import check_preprocessor
from ..feature_cache.store import check_key
from ..freezing import find_faults
from ..registry import HOOKS
from .cuda_graph import CUDAGraphHook
from .runner_access import find_model, optimizer_groups

KEY = 'custom_hooks.FeatureCacheHook'
RESIDENT = ('auto', 'ram', 'gpu', False)


@HOOKS.register_module()
class FeatureCacheHook(Hook):
    """Hook that trains on the views that ``mmfrozen cache fill`` computed.

    A frozen backbone computes the same features of a view each time that the
    view is drawn, which MMDetection does not use. With this hook a training
    step reads the features with their boxes and masks; it decodes no image,
    augments none and runs no backbone. Samplers, loops, validation,
    checkpoints and the other hooks are unchanged. Each time a sample is
    drawn, one of its views is chosen by the random numbers that its
    transforms would have used. docs/feature_cache.md has the costs.

    Args:
        folder: Folder of the cache.
        views: Number of views of each image that are used; None for as many
            as every image has.
        resident: ``'ram'`` reads and checks all of the cache before the first
            step, so that the system keeps it in memory; ``'gpu'`` keeps it on
            the device; False reads and checks each view when it is drawn;
            ``'auto'`` is ``'ram'`` if the cache takes less than half of the
            free memory, else False.

    Raises:
        ValueError: If an option is unknown, or the cache does not belong to
            the weights, pipeline and images of the run.
        FileNotFoundError: If the folder has no cache.

    Example config::

        custom_hooks = [
            dict(type='NumClassCheckHook'),
            dict(type='mmfrozen.FeatureCacheHook', folder='data/cache')]
    """

    def __init__(
        self,
        folder: str,
        views: int | None = None,
        resident: str | bool = 'auto',
    ) -> None:
        require(
            views is None or (type(views) is int and views > 0),
            f'{KEY}.views',
            'a number of views from 1, or None',
            views,
            'Correct it.',
        )
        require(
            resident in RESIDENT,
            f'{KEY}.resident',
            f'one of {RESIDENT}',
            resident,
            'Correct it.',
        )
        self.folder, self.views, self.resident = folder, views, resident
        self._cached: CachedTraining | None = None

    def before_train(self, runner: Runner) -> None:
        """Replace the images of the training loop by the cache.

        If the backbone is not frozen as a whole, log a warning instead.
        """
        self.after_train(runner)
        # the training loop sets this mode only later
        model = find_model(runner).train()
        require(
            hasattr(model, 'backbone'),
            f'The model for {KEY}',
            'a detector with a backbone',
            type(model).__name__,
            'Remove the hook.',
        )
        faults = find_faults(
            model.backbone, optimizer_groups(runner.optim_wrapper)
        )
        if faults:
            runner.logger.warning(
                'FeatureCacheHook must have a backbone that is frozen as a '
                f'whole, got {"; ".join(faults)}. The run trains on images '
                'instead.'
            )
            return
        _check(runner)
        loop = runner.train_loop
        dataset = loop.dataloader.dataset
        store = FeatureStore(self.folder)
        check_unchanging(dataset)
        images = Images(dataset, store.stamps())
        key = key_of(
            runner.cfg.model,
            runner.cfg.train_dataloader.dataset,
            model.backbone,
            dataset,
            images,
        )
        check_key(store.facts.key, key, store.folder)
        places = store.places(images, self.views)
        where = self._keep(store, model)
        runner.logger.info(
            f'FeatureCacheHook trains on {places.shape[1]} views of each of '
            f'{len(images):,} images: {store.num_bytes:,} bytes in '
            f'{store.facts.storage}, {where}'
        )
        self._cached = CachedTraining(
            model, dataset, store, places, images.rows
        )
        # the workers of an existing iterator have the unchanged data set
        iterator = getattr(loop, 'dataloader_iterator', None)
        if getattr(iterator, '_dataloader', None) is loop.dataloader:
            loop.dataloader_iterator = type(iterator)(loop.dataloader)

    def before_train_iter(self, *args: Any, **options: Any) -> None:
        """Stop the run if the backbone's weights have changed."""
        if self._cached:
            self._cached.check_weights()

    def after_train(self, runner: Runner) -> None:
        """Restore the model and the data set."""
        if self._cached:
            self._cached.remove()
        self._cached = None

    def _keep(self, store: FeatureStore, model: Any) -> str:
        resident = self.resident
        if resident == 'auto':
            fits = 2 * store.num_bytes < psutil.virtual_memory().available
            resident = 'ram' if fits else False
        if not resident:
            return 'read when they are drawn'
        store.check()  # reads all files, so they are in the page cache
        if resident == 'gpu':
            store.put_on(model.data_preprocessor.device)
            return 'kept on the device'
        return 'read into memory'


def _check(runner: Runner) -> None:
    """Check that the run's settings work without images.

    Raises:
        ValueError: If a setting needs images, switches the pipeline or
            replaces the backbone's forward.
    """
    check_preprocessor(find_model(runner))
    for hook in runner.hooks:
        if isinstance(hook, CUDAGraphHook):  # its graph copies the images
            raise ValueError(
                f'custom_hooks must have no CUDAGraphHook for {KEY}, got one. '
                'Remove one of them.'
            )
        if isinstance(hook, (PipelineSwitchHook, YOLOXModeSwitchHook)):
            name = type(hook).__name__
            raise ValueError(
                f'custom_hooks must have one pipeline for {KEY}, got {name}. '
                'Remove one of them.'
            )
    if runner.cfg.get('compile'):
        raise ValueError(
            f'compile must not be set for {KEY}, got {runner.cfg.compile!r}. '
            'Remove one of them.'
        )
    if 'forward' in vars(find_model(runner).backbone):
        raise ValueError(
            f'The backbone must have its own forward for {KEY}, got another. '
            'Remove the hook that has replaced it.'
        )
