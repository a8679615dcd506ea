"""Classification losses of long-tailed detection for MMDetection's box heads
(docs/long_tail.md)."""

from .eqlv2 import EQLv2 as EQLv2
from .federated_loss import FederatedLoss as FederatedLoss
