"""Equalization Loss v2, made usable in MMDetection's box heads."""

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
    """MMDetection's ``EQLV2Loss`` with the interface of box head losses.

    Tan et al., "Equalization Loss v2" (arXiv 2012.08548). Loss, gradients and
    state-dict keys are MMDetection's. What MMDetection lacks: its box heads
    treat the loss as a softmax loss, so they predict with a softmax and count
    background in the accuracy; the loss sums gradients over processes, as the
    authors do, only if an option is set; it keeps the logits of the last step
    in memory, and half precision rounds its sums. For MMDetection's and the
    batched box heads (``BBoxHead`` and its subclasses).

    Args:
        options: MMDetection's options: ``num_classes`` (equal to the head's),
            ``gamma``, ``mu``, ``alpha``, ``test_with_obj`` (multiply
            predictions by one minus the probability of background), ...

    Raises:
        ValueError: If the head has another number of classes.

    Example config::

        bbox_head=dict(
            cls_predictor_cfg=dict(
                type='mmfrozen.PriorLinear', prior_prob=0.001),
            loss_cls=dict(type='mmfrozen.EQLv2', num_classes=1203))
    """

    #: Flags that MMDetection's box heads read from a loss.
    custom_cls_channels = custom_activation = custom_accuracy = True

    def get_cls_channels(self, num_classes: int) -> int:
        """Return the number of classifier channels, including background."""
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
        """Return ``acc_classes``, the percentage of objects whose class has
        the highest score."""
        return dict(acc_classes=object_accuracy(cls_score[:, :-1], labels))

    def forward(self, cls_score: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Compute MMDetection's loss in fp32, then free the stored logits."""
        self.use_distributed = is_distributed()
        loss: Tensor = super().forward(cls_score.float(), *args, **kwargs)
        del self.pred_class_logits, self.gt_classes
        return loss
