"""A classifier for sigmoid losses."""

from __future__ import annotations

from typing import Any

from mmengine.model import bias_init_with_prob
from torch import nn

from ...errors import is_number, require
from ...registry import MODELS


@MODELS.register_module()
class PriorLinear(nn.Linear):
    """A linear classifier whose sigmoid starts at a small probability.

    What MMDetection lacks: its box heads start the bias of ``fc_cls`` at 0,
    whatever the loss; 1,203 sigmoids of 0.5 are a first loss of 834 for
    every region. State-dict keys are ``nn.Linear``'s.

    Args:
        options: Those of ``nn.Linear``; the box head sets them.
        prior_prob: Probability of every class at the start (arXiv 1708.02002,
            section 3.3): 0.01 of CenterNet2, 0.001 of EQLv2.

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
        self.prior_prob = prior_prob
        self.init_weights()

    def init_weights(self) -> None:
        """After the head's own ``init_cfg`` has set the bias to 0."""
        nn.init.constant_(self.bias, bias_init_with_prob(self.prior_prob))
