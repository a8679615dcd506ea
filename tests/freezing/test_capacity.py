"""A warning where little trains around a frozen backbone."""

from mmfrozen.freezing.capacity import ENOUGH, capacity_warning


def test_little_that_trains_is_warned_of_with_the_share():
    assert 'only 26% of the parameters train' in capacity_warning(26, 100)
    assert capacity_warning(int(100 * ENOUGH), 100) is None
    assert 'only 0%' in capacity_warning(0, 0)
