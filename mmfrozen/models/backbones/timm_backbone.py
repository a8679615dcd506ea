"""A wrapper that makes any timm classifier a backbone."""

from __future__ import annotations

import re
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.model import BaseModule

from ...errors import did_you_mean
from ...freezing import is_pretrained, layer_names
from ...freezing.weights_file import check_file, is_local
from ...registry import MODELS

TIMM = 'timm://'
# Options that let a model family take images of any size, tried in this order.
ANY_SIZE: tuple[dict[str, bool], ...] = (
    dict(dynamic_img_size=True),  # ViT, DINOv2, DINOv3; Swin in newer timm
    dict(strict_img_size=False),  # Swin in older timm
    {},  # convolutional networks need no option
)
# Matches timm's errors about an image size that does not fit.
MISFIT = re.compile(r'match|divisible|invalid for input|out of bounds')


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """The feature pyramid of a timm classifier.

    What MMDetection lacks: it has no access to timm's classifiers, and
    MMPretrain's TIMMBackbone silently loads weights that match only in part.

    Transformers take images of any size where timm supports it: position
    embeddings are resized, and images are padded with zeros at the bottom and
    right to whole patches. The maps of a plain ViT all have one stride: return
    one of them and build ``SimpleFeaturePyramid`` on it.

    Args:
        model_name: A name from ``timm.list_models()``.
        out_indices: Feature levels to return, fine to coarse. Level i has
            stride 2**(i + 1) in most convolutional networks; in a plain ViT
            it is the output of block i.
        model_args: Further arguments of ``timm.create_model``, such as
            ``dict(drop_path_rate=0.2)``, or ``img_size`` for a model that
            takes one size only.
        sync_bn: Whether batch norms compute their statistics over all GPUs of
            a distributed run. (mmengine's top-level ``sync_bn`` would drop the
            activations that timm has inside its batch norms.)
        init_cfg: ``None`` for random weights, or
            ``dict(type='Pretrained', checkpoint=...)``: a file (``.pth``,
            ``.safetensors``), a URL, or ``timm://NAME`` for the weights that
            timm publishes under a name. They must fill every tensor; the
            classifier's last layer may be missing or of another size.

    Raises:
        ValueError: If the name, the levels or the weights are invalid.

    Example config::

        backbone=dict(
            type='FrozenBackbone',
            backbone=dict(
                type='mmfrozen.TimmBackbone',
                model_name='resnetrs101',
                out_indices=(1, 2, 3, 4),
                init_cfg=dict(
                    type='Pretrained',
                    checkpoint='timm://resnetrs101.tf_in1k')))
    """

    def __init__(
        self,
        model_name: str,
        out_indices: tuple[int, ...] = (1, 2, 3, 4),
        *,
        model_args: dict[str, Any] | None = None,
        sync_bn: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        import timm  # imported here, as it takes 0.7 s

        super().__init__(init_cfg=init_cfg)
        if init_cfg and (
            not is_pretrained(init_cfg) or not init_cfg.get('checkpoint')
        ):
            raise ValueError(
                'model.backbone.init_cfg must be None or dict(type='
                f"'Pretrained', checkpoint=...), got {init_cfg}. "
                'Name a file, a URL or timm://NAME.'
            )
        if not timm.is_model(model_name):
            raise ValueError(
                'model.backbone.model_name must be a model of timm '
                f'{timm.version.__version__}, got {model_name!r}'
                f'{did_you_mean(model_name, timm.list_models(), count=3)}. '
                'Correct it.'
            )
        self.model_name = model_name
        self.model_args = dict(model_args or {})
        self.model = self._build_features(tuple(out_indices))
        # NumClassCheckHook treats any module that has num_classes as a head
        for part in self.model.modules():
            vars(part).pop('num_classes', None)
        if sync_bn and get_world_size() > 1 and torch.cuda.is_available():
            self.model = timm.layers.convert_sync_batchnorm(self.model)
        self._stages: dict[str, int] | None = None

    def _create(self, out_indices: tuple[int, ...]) -> torch.nn.Module:
        """Build the model so that it takes images of any size."""
        import timm

        for option in ANY_SIZE:
            arguments = {**option, **self.model_args}
            try:
                model = timm.create_model(
                    self.model_name,
                    pretrained=False,
                    features_only=True,
                    out_indices=out_indices,
                    **arguments,
                )
            except TypeError:
                if not option:
                    raise
            else:
                self.model_args = arguments
                for layer in model.modules():
                    if isinstance(layer, timm.layers.PatchEmbed):
                        layer.dynamic_img_pad = not layer.strict_img_size
                return model
        raise AssertionError('the last option is none')

    def _build_features(self, out_indices: tuple[int, ...]) -> torch.nn.Module:
        try:
            model = self._create(out_indices)
            #: Channels and strides of the returned levels, fine to coarse.
            self.channels = model.feature_info.channels()
            self.strides = model.feature_info.reduction()
        except (AssertionError, IndexError, TypeError, RuntimeError) as error:
            raise ValueError(
                "model.backbone.out_indices and model_args must fit timm's "
                f'{self.model_name}, got {out_indices} and '
                f'{self.model_args} ({error or "level out of range"}). '
                'Correct them.'
            ) from error
        return model

    def init_weights(self) -> None:
        """Load the classifier's weights; without ``init_cfg``, keep timm's
        random ones."""
        if not self.init_cfg:
            return
        source = self.init_cfg['checkpoint']
        classifier = self._load_classifier(source)
        known = {
            alias: tensor
            for key, tensor in classifier.items()
            for alias in _aliases(key)
        }
        own = self.model.state_dict()
        missing = [
            key
            for key in own
            if key not in known or known[key].shape != own[key].shape
        ]
        if missing:
            raise _misfit(source, self.model_name, missing)
        # load into the whole module, so that adapters add their own tensors
        self.load_state_dict({f'model.{key}': known[key] for key in own})

    def _load_classifier(self, source: str) -> dict[str, torch.Tensor]:
        """Load the whole classifier strictly, as timm itself would."""
        import timm

        name = self.model_name
        overlay: dict[str, Any] = {}
        if source.startswith(TIMM):
            name = source[len(TIMM) :]
        elif not is_local(source):
            overlay = dict(url=source)
        else:
            overlay = dict(state_dict=self._read(source))
        if overlay:  # else timm would download from its own hub
            overlay.update(hf_hub_id=None, source='')
        try:
            model = timm.create_model(
                name,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
                **self.model_args,
            )
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[:400]  # in one line
            raise _misfit(source, name, [reason]) from error
        except OSError as error:
            raise OSError(
                f'model.backbone.init_cfg.checkpoint must be reachable, got '
                f'{source!r} ({error}). Download it and give its path.'
            ) from error
        return model.state_dict()

    def _read(self, path: str) -> dict[str, torch.Tensor]:
        """Read a checkpoint file; replace its last layer with a random one if
        it is missing or of another shape, as the features do not use it."""
        import timm

        check_file(path, 'model.backbone.init_cfg.checkpoint')
        try:  # weights_only is not the default in every release of timm
            state = timm.models.load_state_dict(path, weights_only=True)
        except Exception as error:  # a damaged file can raise anything
            reason = str(error).partition('\n')[0]
            raise ValueError(
                'model.backbone.init_cfg.checkpoint must hold nothing but '
                f'tensors, got {path!r} ({reason}). Use another file.'
            ) from error
        fresh = timm.create_model(self.model_name, **self.model_args)
        heads = fresh.pretrained_cfg.get('classifier') or ()
        heads = (heads,) if isinstance(heads, str) else heads
        for key, tensor in fresh.state_dict().items():
            if key.rpartition('.')[0] in heads and (
                key not in state or state[key].shape != tensor.shape
            ):
                state[key] = tensor
        return state

    def stage_numbers(self) -> dict[str, int]:
        """Return the stage number of every parameter and layer.

        Stages are timm's own coarse groups (``group_matcher``): the stem and
        the stages of a convolutional network or a Swin; in a plain ViT each
        block is a stage.

        Returns:
            Stage number by name, 0 for the stem; empty if timm defines no
            groups for the model.
        """
        if self._stages is None:
            self._stages = self._number_stages()
        return self._stages

    def _number_stages(self) -> dict[str, int]:
        import timm

        with torch.random.fork_rng([]):  # a hook may call this within a step
            classifier = timm.create_model(self.model_name, **self.model_args)
        if not hasattr(classifier, 'group_matcher'):
            return {}
        groups = timm.models.group_parameters(
            classifier, classifier.group_matcher(coarse=True), reverse=True
        )
        known = {
            f'model.{alias}': group
            for name, group in groups.items()
            for alias in _aliases(name)
        }
        names = layer_names(self)
        # A layer without parameters belongs to the stage of the layer before
        # it. A layer whose group number is higher than that of a later layer
        # is moved down to the later layer's stage.
        numbers, number = [], 0
        for name in names:
            number = known.get(name, number)
            numbers.append(number)
        for i in reversed(range(len(numbers) - 1)):
            numbers[i] = min(numbers[i], numbers[i + 1])
        return dict(zip(names, numbers, strict=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the features.

        Args:
            x: Images, (N, 3, H, W).

        Returns:
            One tensor per level, (N, channels[i], ~H / strides[i], ~W /
            strides[i]), fine to coarse.
        """
        try:
            features = self.model(x)
        except (AssertionError, IndexError, RuntimeError) as error:
            if not MISFIT.search(str(error)):
                raise
            raise ValueError(
                f"Images must have a size that timm's {self.model_name} "
                f'takes, got {tuple(x.shape[-2:])} ({error}). Pad them to '
                'multiples with model.data_preprocessor.pad_size_divisor, or '
                'to one size and set model.backbone.model_args=dict('
                'img_size=(HEIGHT, WIDTH)).'
            ) from error
        layout = getattr(self.model, 'output_fmt', 'NCHW')
        if layout == 'NHWC':
            features = [f.permute(0, 3, 1, 2) for f in features]
        return tuple(features)


def _aliases(key: str) -> tuple[str, str, str]:
    """Return the names that a classifier's key can have in the feature model.

    timm renames ``a.b.c`` to ``a_b.c`` in FeatureListNet and to
    ``model.a.b.c`` in FeatureGetterNet, and keeps it in EfficientNetFeatures.
    """
    return key, key.replace('.', '_', 1), f'model.{key}'


def _misfit(source: str, name: str, missing: list[str]) -> ValueError:
    more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
    return ValueError(
        f"model.backbone.init_cfg.checkpoint must hold all weights of timm's "
        f'{name}, got {source!r}, which lacks or differs in: '
        f'{", ".join(missing[:3])}{more}. Give the weights of that model.'
    )
