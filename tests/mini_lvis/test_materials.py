import subprocess
import sys

import numpy as np

from mmfrozen.mini_lvis import load_category_names, materials


def test_category_names_equal_those_of_mmdet_in_order():
    from mmdet.datasets import LVISV1Dataset

    assert load_category_names() == LVISV1Dataset.METAINFO['classes']


def test_every_sprite_stands_for_an_lvis_class():
    sprites = materials.load_materials().sprites
    assert 100 <= len(sprites) <= 150
    assert set(sprites) <= set(load_category_names())


def test_every_sprite_has_transparent_and_opaque_pixels():
    loaded = materials.load_materials()
    groups = [*loaded.sprites.values(), loaded.clutter]
    for sprite in (sprite for group in groups for sprite in group):
        assert sprite.dtype == np.uint8 and sprite.shape[2] == 4
        assert sprite[..., 3].min() < 30 and sprite[..., 3].max() > 220


def test_photographs_are_many_and_large_enough_to_crop():
    photographs = materials.load_materials().photographs
    assert len(photographs) >= 15
    assert all(min(item.shape[:2]) >= 128 for item in photographs)


def test_materials_stay_below_three_megabytes_and_name_licences():
    files = list(materials.FOLDER.iterdir())
    assert sum(path.stat().st_size for path in files) < 3_000_000
    text = (materials.FOLDER / 'LICENSES.md').read_text()
    assert all(
        path.name in text for path in files if path.name != 'LICENSES.md'
    )


def test_package_by_itself_imports_no_torch_and_no_mmdet():
    package = materials.FOLDER.parents[1]
    code = (
        'import sys, types\n'
        'parent = types.ModuleType("mmfrozen")\n'
        f'parent.__path__ = [{str(package)!r}]\n'
        'sys.modules["mmfrozen"] = parent\n'
        'import mmfrozen.mini_lvis\n'
        'sys.exit(bool({"torch", "mmdet", "mmcv"} & set(sys.modules)))\n'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
