"""The federated loss of CenterNet2 and Detectron2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.losses.utils import weight_reduce_loss
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn

from ...errors import is_number, require
from ...registry import MODELS
from .accuracy import object_accuracy
from .frequencies import read_frequencies


@MODELS.register_module()
class FederatedLoss(nn.Module):
    """Sigmoid cross-entropy over a few classes, sampled at every step.

    Zhou et al., "Probabilistic two-stage detection" (CenterNet2, arXiv
    2103.07461), equal to Detectron2's ``use_fed_loss``. What MMDetection
    lacks: LVIS annotates only some classes exhaustively in each image, so a
    region is a wrong negative for some of the others. Here the loss covers the
    classes of the step's regions, background included, plus negative classes
    drawn without replacement, with probability proportional to their number of
    training images to the power of ``freq_weight_power``, until there are
    ``num_fed_classes``. Each process draws its own. For MMDetection's and the
    batched box heads (``BBoxHead`` and its subclasses); they predict with a
    sigmoid. The classifier keeps MMDetection's background channel, which is
    unused.

    Args:
        frequencies: Number of training images of each class: a list by label,
            or a JSON file whose ``categories`` have ``image_count``, like LVIS
            v1's. It is read when weights are initialised, hence in training
            only.
        num_fed_classes: Minimum number of classes in the loss of a step.
        freq_weight_power: Exponent of the frequencies.
        loss_weight: Factor of the loss.

    Raises:
        FileNotFoundError: If the file of frequencies does not exist.
        ValueError: If an option is invalid, or the number of frequencies is
            not that of the head's classes.

    Example config::

        bbox_head=dict(
            cls_predictor_cfg=dict(
                type='mmfrozen.PriorLinear', prior_prob=0.01),
            loss_cls=dict(
                type='mmfrozen.FederatedLoss',
                frequencies='data/lvis_v1/annotations/lvis_v1_train.json'))
    """

    #: Flags that MMDetection's box heads read from a loss.
    use_sigmoid = custom_cls_channels = True
    custom_activation = custom_accuracy = True

    def __init__(
        self,
        frequencies: str | Sequence[float] | None = None,
        num_fed_classes: int = 50,
        freq_weight_power: float = 0.5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        require(
            type(num_fed_classes) is int and num_fed_classes > 0,
            'FederatedLoss.num_fed_classes',
            'a positive integer',
            num_fed_classes,
            "Detectron2's is 50.",
        )
        require(
            is_number(freq_weight_power),
            'FederatedLoss.freq_weight_power',
            'a number',
            freq_weight_power,
            "Detectron2's is 0.5.",
        )
        self.frequencies = frequencies
        self.num_fed_classes = num_fed_classes
        self.freq_weight_power = freq_weight_power
        self.loss_weight = loss_weight
        self.num_classes: int | None = None
        # not a buffer, so that checkpoints also load with other data or losses
        self._weights: Tensor | None = None
        if not isinstance(frequencies, str):
            self.init_weights()

    def init_weights(self) -> None:
        """Read the frequencies; MMEngine calls this before training starts."""
        where = 'FederatedLoss.frequencies'
        counts = read_frequencies(self.frequencies, where)
        self._check_number(len(counts))
        known = sum(count > 0 for count in counts)
        require(
            known >= self.num_fed_classes,
            'FederatedLoss.num_fed_classes',
            f'at most the {known} classes that have training images',
            self.num_fed_classes,
            'Lower it.',
        )
        self._weights = torch.tensor(counts) ** self.freq_weight_power
        self._weights[torch.tensor(counts) == 0] = 0

    def get_cls_channels(self, num_classes: int) -> int:
        """Return the number of classifier channels, including background."""
        require(
            self.num_fed_classes <= num_classes,
            'FederatedLoss.num_fed_classes',
            f'at most the {num_classes} classes of its head',
            self.num_fed_classes,
            'Lower it.',
        )
        self.num_classes = num_classes
        if self._weights is not None:
            self._check_number(len(self._weights))
        return num_classes + 1

    def _check_number(self, number: int) -> None:
        require(
            self.num_classes in (None, number),
            'FederatedLoss.frequencies',
            f'as many as the {self.num_classes} classes of its head',
            number,
            'Correct it, or num_classes of the head.',
        )

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Return probabilities, (N, C + 1); the last column is meaningless."""
        return cls_score.sigmoid()

    def get_accuracy(
        self, cls_score: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return ``acc_classes``, the percentage of objects whose class has
        the highest score."""
        return dict(acc_classes=object_accuracy(cls_score[:, :-1], labels))

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: (N, C + 1) logits; the last column is ignored.
            label: (N,) int64; C is background.
            weight: (N,) weight of each region; None for 1.
            avg_factor: Divisor of the sum; None for N.
            reduction_override: ``'none'``, ``'mean'`` or ``'sum'``; None for
                ``'mean'``.

        Returns:
            The loss as a scalar, or (N,) with ``'none'``.
        """
        logits = cls_score[:, :-1].float()
        targets = F.one_hot(label, cls_score.size(1))[:, :-1].float()
        losses = F.binary_cross_entropy_with_logits(
            logits, targets, reduction='none'
        )
        losses = (losses * self.draw_classes(logits, label)).sum(dim=1)
        return self.loss_weight * weight_reduce_loss(
            losses, weight, reduction_override or 'mean', avg_factor
        )

    @torch.no_grad()
    def draw_classes(self, logits: Tensor, label: Tensor) -> Tensor:
        """Draw the classes of a step's loss.

        Args:
            logits: (N, C), which provides the device and C.
            label: (N,) int64.

        Returns:
            (C,) float, 1 for drawn classes, else 0.
        """
        if self._weights is None:
            self.init_weights()
        self._weights = self._weights.to(logits.device)
        num_classes = logits.size(1)
        present = label.new_zeros(num_classes + 1, dtype=torch.bool)
        present = present.scatter(0, label, True)
        # The same distribution as torch.multinomial without replacement, but
        # without a synchronisation to count the classes left to draw.
        # Processes with the same seed use different rows of the noise.
        noise = logits.new_empty(get_world_size(), num_classes + 1)
        noise = noise.exponential_()[get_rank()]
        keys = F.pad(self._weights, (0, 1)) / noise
        keys = keys.masked_fill(present, torch.inf)
        drawn = keys.topk(self.num_fed_classes).indices
        return present.scatter(0, drawn, True)[:-1].float()
