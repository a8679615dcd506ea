"""Classification losses of long-tailed detection for MMDetection's box heads
(docs/long_tail.md)."""

from .federated_loss import FederatedLoss as FederatedLoss
