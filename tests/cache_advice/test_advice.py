"""What is advised follows from the figures."""

import math
from dataclasses import replace

import pytest

from mmfrozen.cache_advice.advice import (
    Question,
    amount,
    decide,
    in_loop,
    predict,
)
from mmfrozen.cache_advice.disk import Disk
from mmfrozen.cache_advice.steps import Measured
from mmfrozen.run_files import Spread

#: One map of a ViT-B at 1024: 6.29 MB in fp16.
QUESTION = Question(
    config='x.py',
    batch_size=8,
    size=(1024, 1024),
    dtype='bf16',
    shapes=[(768, 64, 64)],
    storage='fp16',
    views=1,
    images=117_266,
    draws=117_266,
    epochs=36,
    gpus=1,
    step_flops=100,
    backbone_flops=60,
)
DISK = Disk('here', 10**14, 1e9, 3e9, 9e9)
MEASURED = Measured(
    steps={
        'plain': Spread(1, 1, 1, 8),
        'engine': Spread(0.8, 0.8, 0.8, 8),
        'cache': Spread(0.4, 0.4, 0.4, 8),
    },
    cpu={'plain': 0.2, 'engine': 0.2, 'cache': 0.2},
    forward=0.4,
    first=20.0,
    load=0.5,
    workers=4,
    cores=16,
    threads=16,
    device='cuda',
    torch='2.14',
    engine='',
)
MEMORY = 64 * 10**9


def steps(**medians):
    found = dict(MEASURED.steps)
    found |= {way: Spread(s, s, s, 8) for way, s in medians.items()}
    return replace(MEASURED, steps=found)


def advice(question=QUESTION, disk=DISK, measured=MEASURED):
    prediction = predict(question, disk, measured, MEMORY)
    return decide(question, disk, prediction)


def test_cache_that_saves_half_of_every_step_is_advised():
    verdict = advice()
    assert verdict.use == 'cache' and 'of 36 epochs' in verdict.because


def test_cache_of_a_vit_b_takes_740_gb_and_of_r101_ten_times_as_much():
    assert amount(QUESTION.total_bytes['fp16']) == '738 GB'
    levels = [(256 << i, 256 >> i, 256 >> i) for i in range(4)]
    r101 = replace(QUESTION, shapes=levels)
    assert amount(r101.total_bytes['fp16']) == '7.38 TB'


@pytest.mark.parametrize(
    'changed, use, because',
    (
        (dict(disk=replace(DISK, free=10**11)), 'engine', '738 GB, 100 GB'),
        (
            dict(disk=replace(DISK, read_rate=5e7)),
            'engine',
            'reading is the bottleneck',
        ),
        (dict(measured=steps(cache=0.79)), 'engine', 'is not faster'),
        (dict(measured=steps(cache=1, engine=0.99)), 'plain', 'not faster'),
        (dict(question=replace(QUESTION, epochs=0.5)), 'engine', 'would pay'),
        (dict(question=replace(QUESTION, views=50)), 'engine', 'would pay'),
    ),
)
def test_cache_is_not_advised_where_something_speaks_against_it(
    changed, use, because
):
    verdict = advice(**changed)
    assert verdict.use == use
    assert because in verdict.because


def test_after_the_break_even_both_have_taken_as_long():
    prediction = predict(QUESTION, DISK, MEASURED, MEMORY)
    number = prediction.break_even * QUESTION.steps_per_epoch
    cached = prediction.fill + number * prediction.steps['cache']
    assert cached == pytest.approx(number * prediction.steps['engine'])


def test_filling_takes_as_long_as_its_views_and_the_choice_of_the_engine():
    one = predict(QUESTION, DISK, MEASURED, MEMORY)
    eight = predict(replace(QUESTION, views=8), DISK, MEASURED, MEMORY)
    first = MEASURED.first
    assert eight.fill - first == pytest.approx(8 * (one.fill - first))
    assert eight.break_even == pytest.approx(
        one.break_even * eight.fill / one.fill
    )


def test_small_cache_is_read_from_memory_and_a_large_one_is_not():
    small = predict(replace(QUESTION, images=100), DISK, MEASURED, MEMORY)
    large = predict(QUESTION, DISK, MEASURED, MEMORY)
    assert small.from_memory and small.read_rate == DISK.memory_rate
    assert not large.from_memory and large.read_rate == DISK.read_rate


def test_processes_share_the_disk():
    alone = predict(QUESTION, DISK, MEASURED, MEMORY)
    eight = predict(replace(QUESTION, gpus=8), DISK, MEASURED, MEMORY)
    assert eight.needed_rate == pytest.approx(8 * alone.needed_rate)


def test_cache_that_gains_nothing_never_pays():
    measured = steps(cache=2.0)
    prediction = predict(QUESTION, DISK, measured, MEMORY)
    assert math.isinf(prediction.break_even)


def test_without_a_measurement_only_the_disk_decides():
    assert decide(QUESTION, DISK, None).use == 'measure'
    full = replace(DISK, free=10**9)
    assert decide(QUESTION, full, None).use == 'engine'


@pytest.mark.parametrize(
    'load, workers, cores, seconds',
    (
        (0.5, 0, 2, 1.5),  # who trains loads
        (0.5, 1, 8, 1.0),  # hidden behind the step
        (3.0, 1, 8, 3.0),  # one process loads too slowly
        (3.0, 4, 8, 1.0),
        (1.0, 4, 1, 2.0),  # one core for both
    ),
)
def test_what_takes_longest_sets_the_pace(load, workers, cores, seconds):
    found = in_loop(1.0, 1.0, load, load, workers=workers, cores=cores)
    assert found == seconds
