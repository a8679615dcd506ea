"""A disk is measured, and left as it was."""

import os
from types import SimpleNamespace

import pytest

from mmfrozen.cache_advice import disk
from mmfrozen.cache_advice.disk import free_bytes, measure_disk


@pytest.fixture
def written(monkeypatch):
    """Sizes of the writes."""
    sizes, pwrite = [], os.pwrite

    def note(number, view, place):
        sizes.append(len(view))
        return pwrite(number, view, place)

    monkeypatch.setattr(os, 'pwrite', note)
    return sizes


@pytest.mark.parametrize(('first', 'is_memory'), [(4.0, False), (1.2, True)])
def test_rates_are_measured_and_nothing_is_left(
    tmp_path, monkeypatch, written, first, is_memory
):
    times = iter((0.0, 2.0, 10.0, 10.0 + first, 20.0, 21.0))
    clock = SimpleNamespace(perf_counter=lambda: next(times))
    monkeypatch.setattr(disk, 'time', clock)
    found = measure_disk(tmp_path, 4096, most=2**20)
    assert written == [4096] * 256
    assert found.write_rate == 2**19
    assert found.read_rate == pytest.approx(2**20 / first)
    assert (found.memory_rate, found.is_memory) == (2**20, is_memory)
    assert not list(tmp_path.iterdir())


def test_no_more_is_written_than_allowed_for_a_large_view(tmp_path, written):
    assert measure_disk(tmp_path, 2**30, most=4096).read_rate > 0
    assert written == [4096]


def test_missing_folder_is_refused_and_the_room_where_it_would_be_is_known(
    tmp_path,
):
    missing = tmp_path / 'a/b'
    with pytest.raises(
        ValueError, match='--folder must be an existing folder'
    ):
        measure_disk(missing, 4096)
    assert free_bytes(missing) > 0 and not missing.parent.exists()
