"""A check that enough parameters train around a frozen backbone."""

from __future__ import annotations

#: Trainable fraction from which a frozen backbone equalled a fine-tuned one on
#: COCO.
ENOUGH = 0.4


def capacity_warning(trainable: int, total: int) -> str | None:
    """Return a warning if only a small fraction of a detector trains.

    The figures are those of Vasconcelos et al., CVPR 2022, ResNet-RS-101 on
    COCO (118,000 images), as quoted in a review of the paper. With few
    annotations freezing gains more.

    Args:
        trainable: Number of trainable parameters.
        total: Number of all parameters.

    Returns:
        The warning, or None if enough trains.
    """
    share = trainable / max(total, 1)
    if share >= ENOUGH:
        return None
    return (
        f'only {share:.0%} of the parameters train: in the paper a frozen '
        'backbone lost 6.5 AP on COCO with 26 % (FPN), drew with 40 % '
        '(NAS-FPN) and won with 54 % (NAS-FPN, cascade), as quoted in a '
        'review of it; give neck and heads more (docs/when_it_loses.md)'
    )
