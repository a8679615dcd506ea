"""A warning where little trains around a frozen backbone."""

from mmfrozen.freezing.capacity import capacity_warning


def test_little_that_trains_is_warned_of_with_the_share():
    assert 'only 39% of the parameters train' in capacity_warning(39, 100)
    assert capacity_warning(40, 100) is None
    assert 'only 0%' in capacity_warning(0, 0)
