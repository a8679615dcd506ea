"""Operators equal those of compiled mmcv 2.1.0, as recorded."""

import numpy as np
import pytest
import torch

from .cases import BITWISE, CASES
from .record import FILE


@pytest.fixture(scope='module')
def recorded():
    with np.load(FILE) as arrays:
        return dict(arrays)


def test_every_case_is_recorded(recorded):
    names = {name.partition('/')[0] for name in recorded} - {'versions'}
    assert names == set(CASES) and len(names) > 150
    assert 'mmcv 2.1.0' in str(recorded['versions'])


@pytest.mark.parametrize('case', CASES)
def test_results_and_gradients_are_those_of_compiled_mmcv(recorded, case):
    for name, tensor in CASES[case]().items():
        expected = torch.from_numpy(recorded[f'{case}/{name}'])
        assert tensor.dtype == expected.dtype, name
        if case.startswith(BITWISE) and not case.startswith('nms_match'):
            assert torch.equal(
                tensor.nan_to_num(-7), expected.nan_to_num(-7)
            ), name
        else:
            tolerance = 1e-5 if tensor.dtype == torch.float32 else 1e-12
            torch.testing.assert_close(
                tensor,
                expected,
                rtol=tolerance,
                atol=10 * tolerance,
                equal_nan=True,
            )
