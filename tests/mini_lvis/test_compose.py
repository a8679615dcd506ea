import numpy as np
import pytest

from mmfrozen.mini_lvis import compose as composing
from mmfrozen.mini_lvis.compose import compose, texture_patch
from mmfrozen.mini_lvis.materials import load_materials


def draw(seed: int, num_things: int = 12, size: tuple[int, int] = (96, 128)):
    loaded = load_materials()
    rng = np.random.default_rng(seed)
    pool = [group[0] for group in loaded.sprites.values()]
    things = [pool[item] for item in rng.integers(len(pool), size=num_things)]
    return compose(rng, loaded.photographs, things, *size)


@pytest.mark.parametrize('seed', range(5))
def test_visible_masks_are_disjoint_and_large_enough(seed):
    _, masks = draw(seed)
    assert masks
    stacked = np.stack(list(masks.values()))
    assert stacked.sum(axis=0).max() == 1
    assert stacked.sum(axis=(1, 2)).min() >= composing.MIN_VISIBLE_PIXELS


def test_image_has_the_asked_size_and_type():
    image, masks = draw(0, size=(80, 200))
    assert image.shape == (80, 200, 3) and image.dtype == np.uint8
    assert all(mask.shape == (80, 200) for mask in masks.values())


def test_thing_without_room_is_left_out_of_image_and_masks():
    _, masks = draw(0, num_things=200)
    assert 0 < len(masks) < 200


def test_upper_thing_hides_the_lower_one_in_the_image(monkeypatch):
    monkeypatch.setattr(composing, '_finish', lambda _, canvas: canvas)
    square = np.full((20, 20, 4), 255, np.uint8)
    red, blue = square * [0, 0, 1, 1], square * [1, 0, 0, 1]
    night = [np.zeros((300, 300, 3), np.uint8)]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        image, masks = compose(rng, night, [red, blue], 64, 64)
        for thing, channel in ((0, 2), (1, 0)):
            inside = image[masks[thing]].mean(axis=0)
            assert inside.argmax() == channel


def test_sizes_range_from_small_to_large_at_256_pixels():
    areas = [
        np.count_nonzero(mask)
        for seed in range(6)
        for mask in draw(seed, 8, (256, 256))[1].values()
    ]
    assert min(areas) < 32**2 < np.median(areas) < 96**2 < max(areas)


def test_texture_patch_is_partly_transparent():
    photographs = load_materials().photographs
    patch = texture_patch(np.random.default_rng(0), photographs)
    assert patch.dtype == np.uint8 and patch.shape == (96, 96, 4)
    assert patch[..., 3].min() == 0 and patch[..., 3].max() == 255
