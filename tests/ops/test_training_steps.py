"""A training step of each detector family has the losses of compiled mmcv."""

import json

import pytest

from .record import FAMILIES, STEPS, take_steps

RECORDED = json.loads(STEPS.read_text())


def test_every_family_is_recorded():
    assert RECORDED.keys() == set(FAMILIES)


@pytest.mark.parametrize('name', RECORDED)
def test_losses_and_gradients_are_those_of_compiled_mmcv(name):
    ours = take_steps([name])[name]
    assert ours.keys() == RECORDED[name].keys()
    for key, value in RECORDED[name].items():
        assert ours[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
