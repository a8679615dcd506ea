"""A classifier layer initialised for sigmoid losses."""

from __future__ import annotations

from typing import Any

from mmengine.model import bias_init_with_prob
from torch import nn

from ...errors import is_number, require
from ...registry import MODELS


@MODELS.register_module()
class PriorLinear(nn.Linear):
    """A linear classifier whose sigmoids start at a small probability.

    What MMDetection lacks: its box heads initialise the bias of ``fc_cls`` to
    0, whatever the loss; with 1,203 sigmoids of 0.5, the first loss is 834 for
    every region. State-dict keys are ``nn.Linear``'s.

    Args:
        options: Options of ``nn.Linear``; the box head sets them.
        prior_prob: Initial probability of every class (arXiv 1708.02002,
            section 3.3): 0.01 in CenterNet2, 0.001 in EQLv2.

    Example config::

        bbox_head=dict(
            cls_predictor_cfg=dict(
                type='mmfrozen.PriorLinear', prior_prob=0.01))
    """

    def __init__(self, *, prior_prob: float = 0.01, **options: Any) -> None:
        super().__init__(**options)
        require(
            is_number(prior_prob) and 0 < prior_prob < 1,
            'PriorLinear.prior_prob',
            'between 0 and 1',
            prior_prob,
            "CenterNet2's is 0.01.",
        )
        require(
            self.bias is not None,
            'PriorLinear.bias',
            'True',
            False,
            'Its initial value is the prior.',
        )
        self.prior_prob = prior_prob
        self.init_weights()

    def init_weights(self) -> None:
        """Restore the bias, which the head's own ``init_cfg`` sets to 0."""
        nn.init.constant_(self.bias, bias_init_with_prob(self.prior_prob))
