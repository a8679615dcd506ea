"""Annotations that would make a wrong result are refused before training."""

import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.annotation_faults import (
    MAX_ID,
    AnnotationValidator,
    FaultyAnnotationsError,
)

GOOD = dict(
    images=[
        dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in (1, 2)
    ],
    categories=[dict(id=3, name='a'), dict(id=5, name='b')],
    annotations=[
        dict(
            id=i,
            image_id=1 + i % 2,
            category_id=(3, 5)[i % 2],
            bbox=[4, 8, 20, 16],
            area=320,
            iscrowd=0,
            segmentation=[[4, 8, 24, 8, 24, 24, 4, 24]],
        )
        for i in range(6)
    ],
)
CHANGES = {
    'text image id': ('images', 'id', '1', 'image '),
    'fractional image id': ('images', 'id', 1.5, 'whole number'),
    'huge image id': ('images', 'id', 2**100, 'whole number'),
    'image id twice': ('images', 'id', 2, 'a unique id'),
    'text width': ('images', 'width', '64', 'width and height'),
    'width of -1': ('images', 'width', -1, 'width and height'),
    'no height': ('images', 'height', None, 'width and height'),
    'category id twice': ('categories', 'id', 5, 'a unique id'),
    'no category name': ('categories', 'name', None, 'a name'),
    'no annotation id': ('annotations', 'id', None, 'id: a whole number'),
    'annotation id twice': ('annotations', 'id', 4, 'a unique id'),
    'text image_id': ('annotations', 'image_id', '1', 'image_id: a whole'),
    'image_id 1.0': ('annotations', 'image_id', 1.0, 'image_id: a whole'),
    'unlisted image': ('annotations', 'image_id', 77, 'got image_id 77'),
    'null category': ('annotations', 'category_id', None, 'category_id: a'),
    'unlisted category': ('annotations', 'category_id', 4, 'listed entry'),
    'short box': ('annotations', 'bbox', [1, 2, 3], 'x, y, width, height'),
    'text box': ('annotations', 'bbox', ['1', 2, 3, 4], 'x, y, width'),
    'NaN in a box': ('annotations', 'bbox', [1, 2, math.nan, 4], 'x, y'),
    'no box': ('annotations', 'bbox', None, 'x, y, width, height'),
    'no area': ('annotations', 'area', None, 'square pixels'),
    'text area': ('annotations', 'area', '320', 'square pixels'),
    'flat polygon': ('annotations', 'segmentation', [4, 8, 24, 8], 'lists'),
    'NaN vertex': (
        'annotations', 'segmentation', [[4, 8, math.nan, 8, 24, 24]], 'lists',
    ),
    'infinite vertex': (
        'annotations', 'segmentation', [[4, 8, math.inf, 8, 24, 24]], 'lists',
    ),
    'vertex at 1e308': (
        'annotations', 'segmentation', [[4, 8, 1e308, 8, 24, 24]], 'lists',
    ),
    'vertex far away': (
        'annotations',
        'segmentation',
        [[-164, -222, 2.1e8, 3.5e8, 226, 237, 272, 384]],
        'lists',
    ),
    'text segmentation': ('annotations', 'segmentation', 'x', 'polygons'),
    'RLE of another size': (
        'annotations', 'segmentation', dict(size=[64, 48], counts='0'),
        'size of its image',
    ),
    'RLE longer than its image': (
        'annotations', 'segmentation', dict(size=[48, 64], counts=[9, 9000]),
        'sum up to 3072',
    ),
    'compressed RLE longer than its image': (
        'annotations', 'segmentation', dict(size=[48, 64], counts='PPX3'),
        'sum up to 3072',
    ),
    'compressed RLE cut short': (
        'annotations', 'segmentation', dict(size=[48, 64], counts='PPP'),
        'sum up to 3072',
    ),
    'compressed RLE of other characters': (
        'annotations', 'segmentation', dict(size=[48, 64], counts='\xc5 '),
        'sum up to 3072',
    ),
    'negative RLE counts': (
        'annotations', 'segmentation', dict(size=[48, 64], counts=[-5, 3077]),
        'sum up to 3072',
    ),
    'RLE counts of text': (
        'annotations', 'segmentation', dict(size=[48, 64], counts=['x']),
        'sum up to 3072',
    ),
    'box of 400 digits': (
        'annotations', 'bbox', [10**400, 2, 3, 4], 'x, y, width, height',
    ),
    'vertex of 400 digits': (
        'annotations', 'segmentation', [[10**400, 8, 9, 8, 24, 24]], 'lists',
    ),
    'area of 400 digits': ('annotations', 'area', 10**400, 'square pixels'),
    'width of 400 digits': ('images', 'width', 10**400, 'width and height'),
}  # fmt: skip


def changed(name):
    part, key, value, words = CHANGES[name]
    content = copy.deepcopy(GOOD)
    content[part][0][key] = value
    return content, words


def build(folder, content, **options):
    for image in (1, 2):
        Image.new('RGB', (64, 48)).save(folder / f'{image}.jpg')
    path = folder / 'ann.json'
    path.write_text(json.dumps(content))
    return DATASETS.build(
        dict(
            type='CheckedCocoDataset',
            data_root=str(folder),
            data_prefix=dict(img=''),
            ann_file='ann.json',
            metainfo=dict(classes=('a', 'b')),
            **{'pipeline': [], **options},
        )
    )


@pytest.mark.parametrize('whole', [False, True])
@pytest.mark.parametrize('name', CHANGES)
def test_each_fault_is_refused_in_one_line_that_names_it(
    tmp_path, name, whole
):
    """Where a file is parsed piece by piece, and where as a whole."""
    content, words = changed(name)
    if whole:
        content['annotations'][1]['x'] = math.nan  # no JSON to orjson
    with pytest.raises(FaultyAnnotationsError) as caught:
        build(tmp_path, content)
    line = str(caught.value)
    assert '\n' not in line
    assert words in line, line
    assert 'must have' in line and 'got' in line and 'ann.json' in line


def test_a_good_file_has_no_fault_and_its_objects_are_counted():
    validator = AnnotationValidator(GOOD['images'], GOOD['categories'])
    assert not list(validator.header())
    assert not list(validator.annotations(GOOD['annotations']))
    assert validator.describe() == '6 objects, 0 crowds'


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_left_out_is_what_mmdetection_leaves_out(
    tmp_path_factory, data
):
    content = copy.deepcopy(GOOD)
    side = st.floats(-90, 90).map(lambda x: round(x, 2))
    for one in content['annotations'][1:]:
        one['bbox'] = [data.draw(side) for _ in range(4)]
        one['area'] = data.draw(st.sampled_from([-1, 0, 5, 2.5]))
        one['iscrowd'] = data.draw(st.sampled_from([0, 0, 1]))
    validator = AnnotationValidator(content['images'], content['categories'])
    assert not [
        *validator.header(),
        *validator.annotations(content['annotations']),
    ]
    built = build(tmp_path_factory.mktemp('d'), content)
    found = [x for i in range(2) for x in built.get_data_info(i)['instances']]
    assert validator.objects == sum(not x['ignore_flag'] for x in found)
    assert validator.crowds == sum(x['ignore_flag'] for x in found)
    assert validator.dropped.total() == 6 - len(found)


@pytest.mark.parametrize(
    'key, value', [('iscrowd', 1), ('area', 0), ('bbox', [4, 8, 0.5, 16])]
)
def test_a_file_without_an_object_to_train_on_is_refused(tmp_path, key, value):
    content = copy.deepcopy(GOOD)
    for one in content['annotations']:
        one[key] = value
    with pytest.raises(ValueError, match='must have objects to train on'):
        build(tmp_path, content)
    assert len(build(tmp_path, content, test_mode=True)) == 2


def test_ids_up_to_63_bits_are_kept_exactly(tmp_path):
    content = copy.deepcopy(GOOD)
    ids = [MAX_ID, MAX_ID - 1]
    for i, image in enumerate(content['images']):
        image['id'] = ids[i]
    for i, category in enumerate(content['categories']):
        category['id'] = 2**53 + i
    for one in content['annotations']:
        one['image_id'] = ids[one['image_id'] - 1]
        one['category_id'] = 2**53 + (one['category_id'] == 5)
    built = build(tmp_path, content)
    assert [built.get_data_info(i)['img_id'] for i in (0, 1)] == ids
    for i in range(2):
        instances = built.get_data_info(i)['instances']
        assert {x['bbox_label'] for x in instances} == {i}


@pytest.mark.parametrize(
    'key', ['id', 'image_id', 'category_id', 'bbox', 'area']
)
def test_annotations_that_lack_a_key_are_refused(tmp_path, key):
    content = copy.deepcopy(GOOD)
    del content['annotations'][1][key]
    with pytest.raises(FaultyAnnotationsError, match=key):
        build(tmp_path, content)


@pytest.mark.parametrize('value', [[], None])
@pytest.mark.parametrize('kind', ['LoadAnnotations', 'LoadCompactAnnotations'])
def test_an_object_without_a_mask_is_refused_where_masks_are_loaded(
    tmp_path, kind, value
):
    content = copy.deepcopy(GOOD)
    content['annotations'][3]['segmentation'] = value
    init_default_scope('mmdet')
    load = [dict(type='LoadImageFromFile'), dict(type=kind, with_bbox=True)]
    assert len(build(tmp_path, content, pipeline=load)) == 2
    load[1]['with_mask'] = True
    with pytest.raises(ValueError, match='none in annotation 3.*paste_by_box'):
        build(tmp_path, content, pipeline=load)
    content['annotations'][3]['area'] = 0  # MMDetection leaves it out
    assert len(build(tmp_path, content, pipeline=load)) == 2
