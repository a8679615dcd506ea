import json
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from lvis import LVIS

from mmfrozen.mini_lvis import build
from mmfrozen.mini_lvis.builder import MANIFEST, digest_files
from mmfrozen.mini_lvis.materials import load_category_names, load_materials
from mmfrozen.mini_lvis.plan import ImagePlan
from mmfrozen.mini_lvis.split import Split

from .conftest import SMALL
from .test_annotations import rasterise

TINY = replace(SMALL, num_train=6, num_val=3)


def interrupt(plans, split):
    yield from plans[:2]
    raise KeyboardInterrupt(split)


def test_same_seed_gives_bitwise_equal_files(small_set, tmp_path):
    build(tmp_path / 'again', SMALL)
    assert digest_files(tmp_path / 'again') == digest_files(small_set)
    build(tmp_path / 'other', replace(SMALL, seed=4))
    assert digest_files(tmp_path / 'other') != digest_files(small_set)


def test_training_images_do_not_depend_on_size_of_val_split(tmp_path):
    build(tmp_path / 'a', TINY)
    build(tmp_path / 'b', replace(TINY, num_val=5))
    one, two = (digest_files(tmp_path / name / 'train2017') for name in 'ab')
    assert one == two


def test_lvis_package_loads_and_recounts_frequencies(small_set):
    train = LVIS(small_set / 'annotations' / 'lvis_v1_train.json')
    val = LVIS(small_set / 'annotations' / 'lvis_v1_val.json')
    assert len(train.imgs) == 60 and len(val.imgs) == 30
    assert train.cats == val.cats and len(train.cats) == 1203
    for category_id, category in train.cats.items():
        found = train.get_ann_ids(cat_ids=[category_id])
        images = {train.anns[item]['image_id'] for item in found}
        assert category['image_count'] == len(images)
        assert category['instance_count'] == len(found)


def test_mmdet_reads_both_splits(small_set):
    from mmdet.datasets import LVISV1Dataset

    for split, num_images in (('train', 60), ('val', 30)):
        dataset = LVISV1Dataset(
            data_root=str(small_set),
            ann_file=f'annotations/lvis_v1_{split}.json',
            data_prefix=dict(img=''),
        )
        assert len(dataset) == num_images
        info = dataset.get_data_info(0)
        assert cv2.imread(info['img_path']).shape == (128, 160, 3)
        assert info['instances']


def test_images_and_records_belong_together(small_set, content):
    ids = [item['id'] for item in content['annotations']]
    assert ids == list(range(1, len(ids) + 1))
    for image in content['images']:
        path = small_set.joinpath(*image['coco_url'].split('/')[-2:])
        assert int(path.stem) == image['id'] and path.is_file()


def test_boxes_are_tight_around_rasterised_polygons(content):
    for item in content['annotations']:
        mask = rasterise(item['segmentation'], (128, 160))
        box = cv2.boundingRect(mask.astype(np.uint8))
        assert item['bbox'] == pytest.approx(box, abs=1.5)


def test_negative_categories_are_never_in_the_image(content):
    names = load_category_names()
    present = {image['id']: set() for image in content['images']}
    for item in content['annotations']:
        present[item['image_id']].add(item['category_id'])
    for image in content['images']:
        negative = set(image['neg_category_ids'])
        assert len(negative) == 8
        assert {names[item - 1] for item in negative} <= set(
            load_materials().sprites
        )
        assert not negative & present[image['id']]
        assert not negative & set(image['not_exhaustive_category_ids'])


def test_instance_left_out_makes_its_category_not_exhaustive(tmp_path):
    names = load_category_names()
    ids = {name: names.index(name) + 1 for name in load_materials().sprites}
    one, two = list(ids.values())[:2]
    split = Split('train', 0, (256, 256), ids, load_materials())
    record, found = split.write_image(0, ImagePlan((0, 1), (0,), 1), tmp_path)
    assert record['not_exhaustive_category_ids'] == [one]
    assert sorted(item['category_id'] for item in found) == [one, two]


def test_complete_set_is_left_alone(small_set):
    before = (small_set / MANIFEST).stat().st_mtime_ns
    assert not build(small_set, SMALL)
    assert not build(small_set, SMALL, force=True)
    assert (small_set / MANIFEST).stat().st_mtime_ns == before


def test_interrupted_run_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / 'lvis_v1', TINY, track=interrupt)
    assert not list(tmp_path.iterdir())


def test_next_run_removes_what_a_killed_one_left_and_spares_a_living_one(
    tmp_path,
):
    code = (
        'import sys, time\n'
        'from mmfrozen.mini_lvis import Parameters, build\n'
        'def track(plans, split):\n'
        "    print('ready', flush=True)\n"
        '    time.sleep(600)\n'
        'build(sys.argv[1], Parameters(4, 4, 64, 64), track=track)\n'
    )
    killed = subprocess.Popen(
        [sys.executable, '-c', code, tmp_path / 'killed'],
        stdout=subprocess.PIPE,
    )
    assert killed.stdout.readline() == b'ready\n'
    killed.kill()
    killed.communicate()
    [left] = tmp_path.iterdir()

    def while_another_runs(plans, split):
        build(tmp_path / 'other', TINY)
        return plans

    assert build(tmp_path / 'living', TINY, track=while_another_runs)
    assert not left.exists()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ['living', 'other']


def test_interrupted_replacement_keeps_the_former_set(tmp_path):
    root = tmp_path / 'lvis_v1'
    build(root, TINY)
    with pytest.raises(KeyboardInterrupt):
        build(root, replace(TINY, seed=9), force=True, track=interrupt)
    assert not build(root, TINY)
    assert list(tmp_path.iterdir()) == [root]


def test_force_replaces_a_set_of_other_parameters(tmp_path):
    root, other = tmp_path / 'lvis_v1', replace(TINY, seed=9)
    root.mkdir()  # an empty folder is a free place
    build(root, TINY)
    with pytest.raises(ValueError, match='other parameters'):
        build(root, other)
    assert build(root, other, force=True)
    manifest = json.loads((root / MANIFEST).read_text())
    assert manifest['parameters']['seed'] == 9


@pytest.mark.parametrize('force', [False, True])
@pytest.mark.parametrize('manifest', [None, '[]', '{}', 'no json'])
def test_real_lvis_is_never_replaced(tmp_path, force, manifest):
    real = tmp_path / 'annotations' / 'lvis_v1_train.json'
    real.parent.mkdir()
    real.write_text('{}')
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(ValueError, match='something else'):
        build(tmp_path, TINY, force=force)
    assert real.read_text() == '{}'


@pytest.mark.parametrize('force', [False, True])
def test_set_with_files_added_later_is_never_replaced(tmp_path, force):
    build(tmp_path / 'lvis_v1', TINY)
    mine = tmp_path / 'lvis_v1' / 'train2017' / '000000999999.jpg'
    mine.write_bytes(b'mine')
    with pytest.raises(RuntimeError, match='changed'):
        build(tmp_path / 'lvis_v1', TINY, force=force)
    assert mine.exists()


def test_parameters_out_of_range_are_named():
    with pytest.raises(ValueError, match='num_val must be .*, got 0'):
        replace(SMALL, num_val=0)
