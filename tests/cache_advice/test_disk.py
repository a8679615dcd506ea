"""A disk is measured, and left as it was."""

import pytest

from mmfrozen.cache_advice.disk import free_bytes, measure_disk


def test_rates_are_measured_and_nothing_is_left(tmp_path):
    disk = measure_disk(tmp_path, 4096, most=2**20)
    assert min(disk.write_rate, disk.read_rate, disk.memory_rate) > 0
    assert disk.free > 0
    assert not list(tmp_path.iterdir())


def test_view_that_is_larger_than_the_test_file_is_read_in_part(tmp_path):
    assert measure_disk(tmp_path, 2**30, most=4096).read_rate > 0


def test_missing_folder_is_refused_and_the_room_where_it_would_be_is_known(
    tmp_path,
):
    missing = tmp_path / 'a/b'
    with pytest.raises(
        ValueError, match='--folder must be an existing folder'
    ):
        measure_disk(missing, 4096)
    assert free_bytes(missing) > 0 and not missing.parent.exists()
