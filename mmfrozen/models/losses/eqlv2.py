"""Equalization Loss v2 with the sigmoid that it is trained for."""

from __future__ import annotations

from typing import Any

from mmdet.models.losses import EQLV2Loss
from mmengine.dist import is_distributed
from torch import Tensor

from ...errors import require
from ...registry import MODELS
from .accuracy import object_accuracy


@MODELS.register_module()
class EQLv2(EQLV2Loss):
    """MMDetection's ``EQLV2Loss`` in MMDetection's box heads.

    Tan et al., "Equalization Loss v2" (arXiv 2012.08548). Loss, gradients and
    state-dict keys are MMDetection's. What it lacks: its heads do not learn
    that the loss is of sigmoids, predict with a softmax, and count the
    accuracy of background; gradients are summed over processes, as the
    authors do, on request alone; logits of the last step stay in memory, and
    half precision rounds the sums. For box heads (``BBoxHead`` and what
    inherits from it), stock or batched.

    Args:
        options: MMDetection's: ``num_classes`` (that of the head), ``gamma``,
            ``mu``, ``alpha``, ``test_with_obj`` (predictions times one minus
            the probability of background), ...

    Raises:
        ValueError: If the head has another number of classes.

    Example config::

        bbox_head=dict(
            cls_predictor_cfg=dict(
                type='mmfrozen.PriorLinear', prior_prob=0.001),
            loss_cls=dict(type='mmfrozen.EQLv2', num_classes=1203))
    """

    #: What MMDetection's box heads ask of a loss.
    custom_cls_channels = custom_activation = custom_accuracy = True

    def get_cls_channels(self, num_classes: int) -> int:
        """Channels of the classifier of a head, background's included."""
        require(
            num_classes == self.num_classes,
            'EQLv2.num_classes',
            f'the {num_classes} of its head',
            self.num_classes,
            'Set it so.',
        )
        return self.get_channel_num(num_classes)  # type: ignore[no-any-return]

    def get_accuracy(
        self, cls_score: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Share of objects whose class has the highest score, per cent."""
        return dict(acc_classes=object_accuracy(cls_score[:, :-1], labels))

    def forward(self, cls_score: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See MMDetection's method."""
        self.use_distributed = is_distributed()
        loss: Tensor = super().forward(cls_score.float(), *args, **kwargs)
        del self.pred_class_logits, self.gt_classes
        return loss
