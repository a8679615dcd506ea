"""Feature maps in fewer bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfrozen.feature_cache.storage import STORAGES, errors, pack, unpack

#: Largest relative error of a number that is not tiny: half a step.
STEPS = {'fp32': 0.0, 'fp16': 2**-11, 'bf16': 2**-8}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(STORAGES)),
    st.integers(0, 2**31),
    st.floats(1e-3, 1e3),
    st.floats(-10, 10),
)
def test_an_error_is_half_a_step_at_most(storage, seed, scale, shift):
    torch.manual_seed(seed)
    level = torch.randn(2, 3, 4, 5) * scale + shift
    parts = pack(level, storage)
    assert parts[0].dtype == STORAGES[storage]
    found = unpack(parts, torch.float32)
    if storage == 'int8':
        flat = level.flatten(2)
        step = (flat.amax(2) - flat.amin(2)) / 255
        allowed = step[..., None, None] * 0.51 + level.abs() * 1e-6
    else:
        allowed = level.abs() * STEPS[storage] + 1e-7
    assert ((found - level).abs() <= allowed).all()
    relative = (found - level).flatten(1).norm(dim=1)
    relative /= level.flatten(1).norm(dim=1)
    assert errors(level, parts) == pytest.approx(relative.tolist())


def test_a_map_of_one_number_is_kept_in_int8():
    level = torch.full((1, 2, 3, 3), 1.25)
    assert torch.equal(unpack(pack(level, 'int8'), torch.float32), level)


@pytest.mark.parametrize('storage', list(STORAGES))
@pytest.mark.parametrize('bad', [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused(storage, bad):
    level = torch.ones(1, 2, 3, 3)
    level[0, 1, 2, 2] = bad
    with pytest.raises(ValueError, match='Features must be finite'):
        pack(level, storage)


def test_features_too_large_for_fp16_are_refused():
    level = torch.full((1, 1, 2, 2), 1e5)
    with pytest.raises(ValueError, match='got 100,000.*--storage bf16'):
        pack(level, 'fp16')
    assert unpack(pack(level, 'bf16'), torch.float32).max() > 9e4
