"""Annotations that are parsed image by image are those of MMDetection."""

import gc
import json
import pickle
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from mmdet.registry import DATASETS
from pycocotools import mask as mask_utils

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.annotation_faults import FaultyAnnotationsError
from mmfrozen.datasets import CheckedCocoDataset, pieces

NAMES = ('cat', 'dog', 'emu')
WORDS = st.sampled_from(['', 'a', '}, {', '}]', '"annotations": [', 'é\\"'])
NUMBERS = st.one_of(st.integers(-5, 90), st.floats(-5, 90, width=32))
POLYGONS = st.lists(st.lists(NUMBERS, min_size=6, max_size=8), max_size=2)
RLES = st.fixed_dictionaries(
    dict(
        size=st.just([50, 60]),
        counts=st.one_of(
            st.lists(st.integers(0, 99), max_size=9), st.just('0b0')
        ),
    )
)
ANNOTATIONS = st.fixed_dictionaries(
    dict(
        image_id=st.integers(1, 4),
        category_id=st.sampled_from([1, 3, 8]),
        bbox=st.lists(NUMBERS, min_size=4, max_size=4),
        area=NUMBERS,
        segmentation=st.one_of(POLYGONS, RLES, st.just([])),
        iscrowd=st.sampled_from([0, 1]),
    ),
    optional=dict(
        ignore=st.sampled_from([0, 1]),
        attributes=st.dictionaries(WORDS, WORDS, max_size=2),
        parts=st.lists(st.dictionaries(WORDS, WORDS), max_size=2),
        note=WORDS,
    ),
)
LAYOUTS = st.sampled_from(
    [{}, dict(separators=(',', ':')), dict(indent=1), dict(indent='\t')]
)


def content_of(annotations, order=('annotations', 'images', 'categories')):
    """An annotation file of four images and three categories."""
    url = 'http://images.cocodataset.org/train2017/'
    for annotation in annotations:
        shape = annotation.get('segmentation')
        if isinstance(shape, dict):  # of its image
            width = 60 - 15 * (annotation['image_id'] == 2)
            shape['size'] = [50, width]
            if isinstance(shape['counts'], list):
                rest = 50 * width - sum(shape['counts'])
                shape['counts'] = [*shape['counts'], rest]
            else:
                rle = mask_utils.frPyObjects(
                    {**shape, 'counts': [9, 9, 50 * width - 18]}, 50, width
                )
                shape['counts'] = rle['counts'].decode()
    content = dict(
        annotations=[{**x, 'id': i} for i, x in enumerate(annotations)],
        images=[
            dict(
                id=i,
                file_name=f'{i}.jpg',
                coco_url=f'{url}{i}.jpg',
                height=50,
                width=60 - 15 * (i == 2),
            )
            for i in (4, 2, 1, 3)
        ],
        categories=[
            dict(id=i, name=name)
            for i, name in zip((3, 1, 8), NAMES, strict=True)
        ],
    )
    return {name: content[name] for name in order}


def both(path, kind, **options):
    """The data set of MMDetection and ours."""
    options = dict(
        ann_file=str(path),
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=NAMES),
        pipeline=[],
        **options,
    )
    with mock.patch.object(gc, 'collect'):  # takes longer than all else
        stock = DATASETS.build({**options, 'type': kind})
    return (
        stock,
        DATASETS.build(
            {**options, 'type': f'Checked{kind}', 'check_images': False}
        ),
    )


def check_equal(stock, ours):
    """Compare all that MMDetection keeps."""
    assert ours.data_bytes.tobytes() == stock.data_bytes.tobytes()
    assert ours.data_address.dtype == stock.data_address.dtype
    assert np.array_equal(ours.data_address, stock.data_address)
    assert len(ours) == len(stock)
    for name in ('cat_ids', 'cat2label', 'cat_img_map'):
        assert getattr(ours, name) == getattr(stock, name), name
    said = {'labels_follow_classes': True}
    assert ours.metainfo in (stock.metainfo, {**stock.metainfo, **said})
    assert list(ours.cat_img_map) == list(stock.cat_img_map)
    for i in range(len(stock)):
        assert ours.get_cat_ids(i) == stock.get_cat_ids(i)
    if len(stock) > 1:  # with one MMDetection fails
        assert ours.get_cat_ids(-1) == stock.get_cat_ids(-1)


def refuse(*args, **kwargs):
    raise AssertionError('parsed as MMDetection does')


@settings(deadline=None, max_examples=100)
@given(
    annotations=st.lists(ANNOTATIONS, max_size=9),
    order=st.permutations(['annotations', 'images', 'categories']),
    layout=LAYOUTS,
    kind=st.sampled_from(['CocoDataset', 'LVISV1Dataset']),
    options=st.sampled_from(
        [
            {},
            dict(test_mode=True),
            dict(filter_cfg=dict(filter_empty_gt=True, min_size=47)),
            dict(indices=2),
            dict(indices=[3, 1, 1, -1]),
        ]
    ),
)
def test_any_file_gives_the_data_list_of_mmdetection(
    tmp_path_factory, annotations, order, layout, kind, options
):
    path = tmp_path_factory.mktemp('any') / 'gt.json'
    # an image that every filter keeps: none is refused
    annotations.append(
        dict(image_id=1, category_id=3, bbox=[1, 2, 30, 30], area=9)
    )
    path.write_text(json.dumps(content_of(annotations, order), **layout))
    check_equal(*both(path, kind, **options))


@pytest.fixture
def path(tmp_path):
    """Two annotations of each of three images."""
    annotations = [
        dict(
            image_id=1 + i % 3,
            category_id=(1, 3, 8)[i % 3],
            bbox=[1, 2, 30, 20 + i],
            area=9.5,
            segmentation=[[1, 2, 30.5, 2, 30, 20 + i]],
        )
        for i in range(6)
    ]
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(content_of(annotations)))
    return path


@pytest.mark.parametrize('kind', ['CocoDataset', 'LVISV1Dataset'])
def test_usual_files_are_not_parsed_as_mmdetection_does(
    path, kind, monkeypatch
):
    stock, _ = both(path, kind)
    monkeypatch.setattr(json, 'load', refuse)
    ours = DATASETS.build(
        dict(
            type=f'Checked{kind}',
            ann_file=str(path),
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=NAMES),
            check_images=False,
        )
    )
    check_equal(stock, ours)


def test_chunks_of_any_size_give_the_same(path, monkeypatch):
    monkeypatch.setattr(json, 'load', refuse)
    whole = pieces.AnnotationFile(path)
    for size in (1, 2, 5):
        monkeypatch.setattr(pieces, 'CHUNK', size)
        found = pieces.AnnotationFile(path)
        assert found.cat_img_map == whole.cat_img_map
        assert [found.ids(i) for i in range(5)] == [
            [],
            [0, 3],
            [1, 4],
            [2, 5],
            [],
        ]


@pytest.mark.parametrize(
    'old, new',
    [
        ('"area": 9.5', '"area": 9.5, "x": NaN'),  # no JSON to orjson
        ('"area": 9.5', '"area": 9.5, "parts": [{"a": 1}, {"b": 2}]'),
        ('"images"', '"annotations": [], "images"'),
    ],
)
def test_other_files_are_left_to_mmdetection(path, old, new):
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError):
        pieces.AnnotationFile(path)
    check_equal(*both(path, 'CocoDataset'))


def test_ids_that_two_annotations_share_are_refused_as_by_mmdetection(path):
    path.write_text(path.read_text().replace('"id": 5', '"id": 0'))
    for side, error, words in (
        ('', AssertionError, 'not unique'),
        ('Checked', FaultyAnnotationsError, 'a unique id, got 0'),
    ):
        with pytest.raises(error, match=words):
            DATASETS.build(
                dict(
                    type=f'{side}CocoDataset',
                    ann_file=str(path),
                    data_prefix=dict(img=''),
                    metainfo=dict(classes=NAMES),
                )
            )


def test_data_that_are_not_serialised_are_those_of_mmdetection(path):
    stock, ours = both(path, 'LVISV1Dataset', serialize_data=False)
    assert ours.data_list == stock.data_list
    assert ours.data_list[2]['instances']


def test_proposals_are_loaded_as_by_mmdetection(path, tmp_path):
    proposals = {f'images/{i}.jpg': [[i, 2, 3, 4, 0.5]] for i in range(1, 5)}
    file = tmp_path / 'proposals.pkl'
    file.write_bytes(pickle.dumps(proposals))
    stock, ours = both(path, 'CocoDataset', proposal_file=str(file))
    check_equal(stock, ours)
    assert ours.get_data_info(0)['proposals']


def first_only(infos):
    for info in infos:
        info['instances'] = info['instances'][:1]
    return infos


class Listing(CheckedCocoDataset):
    def load_data_list(self):
        return first_only(super().load_data_list())


class Filtering(CheckedCocoDataset):
    def filter_data(self):
        return first_only(super().filter_data())


class Parsing(CheckedCocoDataset):
    def parse_data_info(self, raw):
        raw['raw_img_info']['file_name'] += '.png'
        return first_only([super().parse_data_info(raw)])[0]


@pytest.mark.parametrize('subclass', [Listing, Filtering, Parsing])
def test_what_a_subclass_overrides_sees_the_annotations_once(path, subclass):
    """Images get their annotations later only where nobody looks."""
    ours = subclass(
        ann_file=str(path),
        data_prefix=dict(img=''),
        metainfo=dict(classes=NAMES),
        check_images=False,
    )
    assert [len(ours.get_cat_ids(i)) for i in range(4)] == [0, 1, 1, 1]
    name = '1.jpg.png' if subclass is Parsing else '1.jpg'
    assert ours.get_data_info(2)['img_path'] == name


def test_loading_later_and_subsets_are_those_of_mmdetection(path):
    stock, ours = both(path, 'LVISV1Dataset', lazy_init=True)
    for one in (stock, ours):
        one.full_init()
        one.full_init()
    check_equal(stock, ours)
    for subset in (2, -2, [3, 1]):
        a, b = (one.get_subset(subset) for one in (stock, ours))
        assert [a.get_data_info(i) for i in (0, 1)] == [
            b.get_data_info(i) for i in (0, 1)
        ]
        for one in (a, b):
            one.get_subset_([1])
        assert a.get_data_info(0) == b.get_data_info(0)
        assert a.get_cat_ids(0) == b.get_cat_ids(0) != []


def test_loading_again_after_a_refusal_starts_anew(path):
    text = path.read_text()
    options = dict(
        ann_file=str(path),
        data_prefix=dict(img=''),
        metainfo=dict(classes=(*NAMES, 'gnu')),
        check_images=False,
        lazy_init=True,
    )
    ours = CheckedCocoDataset(**options)
    with pytest.raises(ValueError, match='gnu'):
        ours.full_init()
    path.write_text(text.replace('emu', 'gnu').replace('9.5', '9.5, "x": NaN'))
    ours._metainfo['classes'] = ('cat', 'dog', 'gnu')
    ours.full_init()
    assert len(ours.get_cat_ids(1)) == 2
