"""A few of the mistakes of benchmarks/fuzz_configs.py, the same each time."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.configs.pack import PACK, load

from .mutations import mutations
from .shrink import prepare, shrink
from .trial import first_step

NAMES = (
    'finetuned/mask_rcnn_r101_lvis',
    'frozen/mask_rcnn_lite0_irfs_federated_mini-lvis',
    'frozen/retinanet_r50_fpn_12e_coco',
)


@pytest.fixture(scope='module')
def small(mini_lvis, tmp_path_factory):
    """Experiments whose step takes tenths of a second."""
    files = prepare(
        tmp_path_factory.mktemp('weights'),
        mini_lvis,
        kin=('tf_efficientnet_lite0',),
    )
    return [shrink(load(PACK / f'{name}.py'), files) for name in NAMES]


def test_small_experiments_train(small):
    assert [first_step(cfg).kind for cfg in small] == ['step'] * len(NAMES)


def test_warning_of_what_looks_misspelt_is_in_the_log_of_a_run(small):
    outcome = first_step(dict(small[0], models=['r50']))
    assert outcome.kind == 'step' and outcome.names('models')


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_one_mistake_trains_or_is_named(small, data):
    mutation = data.draw(mutations(data.draw(st.sampled_from(small))))
    outcome = first_step(mutation.cfg)
    if outcome.kind == 'step' and not mutation.kind.startswith('typo'):
        return
    assert outcome.kind in ('step', 'error'), (mutation, outcome)
    assert outcome.names(mutation.typed), (mutation, outcome)
