"""Data sets that are refused before training."""

import copy
import gc
import gzip
import json
import shutil

import pytest
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.datasets import checked


@pytest.fixture
def root(mini_lvis, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(mini_lvis, tmp_path / 'lvis_v1')


def build(root, kind='CheckedLVISV1Dataset', **options):
    defaults = dict(
        type=kind,
        data_root=str(root),
        data_prefix=dict(img=''),
        ann_file='annotations/lvis_v1_train.json',
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[],
    )
    return DATASETS.build({**defaults, **options})


def edit(root, change):
    path = root / 'annotations/lvis_v1_train.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(error, *words, **options):
    with pytest.raises(error) as caught:
        build(**options)
    message = str(caught.value).splitlines()[-1]
    for word in (*words, 'must', 'got'):
        assert word in message, message


def first_image(root):
    return sorted((root / 'train2017').glob('*.jpg'))[0]


def test_good_data_are_those_of_mmdetection(root):
    ours = build(root)
    stock = build(root, 'LVISV1Dataset')
    assert len(ours) == len(stock) == 24
    assert ours.get_data_info(3) == stock.get_data_info(3)


def test_missing_annotation_file_is_refused(root):
    refused(
        FileNotFoundError,
        'no.json',
        'mmfrozen mini-lvis',
        root=root,
        ann_file='no.json',
    )


def test_broken_annotation_file_is_refused(root):
    path = root / 'annotations/lvis_v1_train.json'
    path.write_text(path.read_text()[:10_000])
    refused(ValueError, 'lvis_v1_train.json', 'complete JSON', root=root)


def test_missing_image_is_refused(root):
    path = first_image(root)
    path.unlink()
    refused(ValueError, path.name, 'does not exist', '1 of 24', root=root)


def test_truncated_image_is_refused(root):
    path = first_image(root)
    path.write_bytes(path.read_bytes()[:-200])
    refused(ValueError, path.name, 'cannot be read', root=root)


def test_file_that_is_no_image_is_refused(root):
    first_image(root).write_text('<html>not found</html>')
    refused(ValueError, 'cannot be read', root=root)


def test_image_of_another_size_is_refused(root):
    Image.new('RGB', (64, 64)).save(first_image(root))
    refused(ValueError, '64 x 64 instead of 128 x 96', root=root)


def turn(path, orientation):
    """Store an image on its side, to be shown as before."""
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.rotate(90, expand=True).save(path, exif=exif)


def test_image_that_exif_turns_is_taken_as_it_is_shown(root):
    turn(first_image(root), 6)
    build(root)


def test_image_on_its_side_is_refused(root):
    turn(first_image(root), 1)
    refused(ValueError, '96 x 128 instead of 128 x 96', root=root)


def test_image_annotated_as_stored_is_refused_unless_it_is_read_so(root):
    path = first_image(root)
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    refused(ValueError, 'turned by its EXIF orientation', root=root)
    load = dict(
        type='LoadImageFromFile', color_type='color_ignore_orientation'
    )
    build(root, pipeline=[load])


def test_only_the_images_of_a_subset_are_looked_at(root):
    first_image(root).unlink()
    build(root, indices=[5, 6])
    refused(ValueError, '1 of 2', root=root, indices=2)


def test_images_are_checked_by_the_first_process_of_each_machine(
    root, monkeypatch
):
    first_image(root).unlink()
    monkeypatch.setattr(checked, 'get_rank', lambda: 8)
    monkeypatch.setenv('LOCAL_RANK', '0')
    refused(ValueError, 'does not exist', root=root)
    monkeypatch.setenv('LOCAL_RANK', '1')
    build(root)


def test_images_are_not_looked_at_when_switched_off(root):
    first_image(root).unlink()
    build(root, check_images=False)


def test_lvis_classes_that_differ_from_the_file_are_refused(root):
    def rename(content):
        content['categories'][2]['name'] = 'something else'

    edit(root, rename)
    refused(ValueError, 'metainfo.classes', 'airplane', root=root)


def test_missing_lvis_category_is_refused(root):
    edit(root, lambda content: content['categories'].pop())
    refused(ValueError, 'metainfo.classes', root=root)


def test_the_official_files_own_misspelling_is_taken(root):
    """LVIS v1 has stero_equipment where mmdet has stereo_equipment."""

    def rename(content):
        found = [
            c
            for c in content['categories']
            if c['name'] == 'speaker_(stereo_equipment)'
        ]
        found[0]['name'] = 'speaker_(stero_equipment)'

    edit(root, rename)
    assert len(build(root)) == 24


def test_coco_classes_are_a_choice_from_the_file(root):
    with open(root / 'annotations/lvis_v1_train.json') as stream:
        content = json.load(stream)
    for image in content['images']:
        image['file_name'] = image['coco_url'].rpartition('/')[2]
    (root / 'mine.json').write_text(json.dumps(content))
    present = {a['category_id'] for a in content['annotations']}
    name = content['categories'][min(present) - 1]['name']
    options = dict(
        root=root,
        kind='CheckedCocoDataset',
        ann_file='mine.json',
        data_prefix=dict(img='train2017/'),
    )
    assert len(build(**options, metainfo=dict(classes=(name,)))) > 0
    refused(
        ValueError,
        'did you mean',
        name,
        metainfo=dict(classes=(name, name + 's')),
        **options,
    )
    absent = content['categories'][min(set(range(1, 1204)) - present) - 1][
        'name'
    ]
    refused(
        ValueError, 'got none', **options, metainfo=dict(classes=(absent,))
    )


def test_loading_leaves_the_collector_on_and_finds_ids_like_a_list(root):
    assert gc.isenabled()
    ours = build(root)
    assert gc.isenabled()
    stock = build(root, 'LVISV1Dataset')
    copied = copy.deepcopy(ours).cat_ids
    assert copied == stock.cat_ids
    for category in (0, 1, 1203, 1204):
        assert (category in copied) == (category in stock.cat_ids)
    edit(root, lambda content: content.pop('images'))
    with pytest.raises(ValueError, match='must have lists of images'):
        build(root)
    assert gc.isenabled()


def test_lvis_categories_in_another_order_are_refused(root):
    """Labels of MMDetection are places in the file, whatever the ids."""
    edit(root, lambda content: content['categories'].reverse())
    refused(ValueError, 'metainfo.classes', root=root)


def test_backslashes_in_a_file_name_are_named(root):
    def change(content):
        image = content['images'][0]
        image['file_name'] = image['coco_url'].split('/')[-1]
        image['coco_url'] = 'train2017\\\\' + image['file_name']

    edit(root, change)
    refused(ValueError, 'backslashes', 'mmfrozen check --fix', root=root)


def test_an_image_elsewhere_does_not_switch_the_look_at_others_off(root):
    def change(content):
        content['images'][0]['coco_url'] = 's3://mine/train2017/1.jpg'

    edit(root, change)
    build(root)
    (root / 'train2017' / sorted((root / 'train2017').iterdir())[5]).unlink()
    refused(ValueError, 'does not exist', root=root)


@pytest.mark.parametrize('step', [1, 2])
def test_objects_without_masks_are_refused_before_they_are_pasted(root, step):
    def change(content):
        for annotation in content['annotations'][::step]:
            annotation['segmentation'] = []

    edit(root, change)
    init_default_scope('mmdet')

    def mixed(with_mask, **options):
        load = dict(
            type='LoadCompactAnnotations', with_bbox=True, with_mask=with_mask
        )
        return DATASETS.build(
            dict(
                type='CopyPasteDataset',
                dataset=dict(
                    type='CheckedLVISV1Dataset',
                    data_root=str(root),
                    data_prefix=dict(img=''),
                    ann_file='annotations/lvis_v1_train.json',
                    pipeline=[dict(type='LoadImageFromFile'), load],
                ),
                pipeline=[dict(type='SimpleCopyPaste', **options)],
            )
        )

    with pytest.raises(ValueError) as caught:
        mixed(True)
    line = str(caught.value)
    assert 'paste_by_box=True' in line and 'with_mask=False' in line
    assert len(mixed(False, paste_by_box=True)[0]['gt_bboxes'])


@pytest.mark.parametrize(
    'content, words',
    [
        (gzip.compress(b'{}', mtime=0), 'Unpack it'),
        (b'', 'must be complete JSON'),
        (b'null', 'must have lists of images'),
        (b'{}', 'must have lists of images'),
        (b'{"images": [1], "categories": [], "annotations": []}', 'lists of'),
        (b'[' * 100_000, 'nested lists'),
    ],
)
@pytest.mark.parametrize(
    'kind', ['CheckedCocoDataset', 'CheckedLVISV1Dataset']
)
def test_what_is_no_annotation_file_is_refused(root, kind, content, words):
    path = root / 'annotations/lvis_v1_train.json'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        build(root, kind)
    assert path.name in str(caught.value)
    assert '\n' not in str(caught.value)
