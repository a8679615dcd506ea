"""`mmfrozen check`, as a person types it, on a data set full of faults."""

import gzip
import json
import math
import os
import sys

import numpy as np
import pytest
from mmdet.registry import DATASETS
from PIL import Image

import mmfrozen  # noqa: F401  (registers)
from mmfrozen_cli import main

BOX = [4, 8, 20, 16]


def run(monkeypatch, *args):
    words = ['mmfrozen', 'check', *map(str, args)]
    monkeypatch.setattr(sys, 'argv', words)
    return main()


def draw(folder, name, mode='RGB', size=(64, 48), **options):
    Image.new(mode, size).save(folder / name, **options)
    return name


def pictures(folder):
    """One image of each kind, by the kind that is found."""
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(folder, 'turned.jpg', exif=exif)
    (folder / 'empty.jpg').touch()
    (folder / 'page.jpg').write_text('<html>')
    whole = draw(folder, 'cut.jpg')
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / whole)
    content = (folder / whole).read_bytes()
    (folder / whole).write_bytes(content[: len(content) // 2])
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(folder / 'deep.png')
    return {
        'image missing': 'absent.jpg',
        'image empty': 'empty.jpg',
        'image unreadable': 'page.jpg',
        'image size': draw(folder, 'small.jpg', size=(32, 32)),
        'image annotated as stored, not as shown': 'turned.jpg',
        'image in CMYK': draw(folder, 'cmyk.jpg', 'CMYK'),
        'image in grey': draw(folder, 'grey.jpg', 'L'),
        'image of 16 bits': 'deep.png',
        'image with transparency': draw(folder, 'alpha.png', 'RGBA'),
        'image suffix': draw(folder, 'wrong.png', format='JPEG'),
        'image turned by EXIF': 'turned.jpg',
    }


#: Changes of one annotation each, by the kind that is found.
ANNOTATIONS = {
    'annotation id': dict(id='x'),
    'annotation id twice': dict(id=1),
    'annotation image_id': dict(image_id=None),
    'annotation category_id': dict(category_id=None),
    'image_id not listed': dict(image_id=999),
    'category_id not listed': dict(category_id=999),
    'bbox': dict(bbox=[1, 2, math.nan, 4]),
    'area': dict(area=None),
    'polygon': dict(segmentation=[[4, 8, 1e300, 8, 9, 9]]),
    'segmentation': dict(segmentation='none'),
    'RLE size': dict(segmentation=dict(size=[64, 48], counts='0')),
    'RLE length': dict(segmentation=dict(size=[48, 64], counts=[1, 2])),
    'area of 0 or less': dict(area=0),
    'box less than a pixel wide or high': dict(bbox=[4, 8, 0.5, 16]),
    'box outside of the image': dict(bbox=[70, 8, 20, 16]),
    'box over the edge of the image': dict(bbox=[54, 8, 20, 16]),
    'area larger than the box': dict(area=9999),
    'iscrowd that is neither 0 nor 1': dict(iscrowd=2),
    'crowd with polygons': dict(iscrowd=1),
    'annotation without a mask': dict(segmentation=[]),
    'polygon of less than 3 points, or half a point': dict(
        segmentation=[[4, 8, 24, 8]]
    ),
    'id beyond 53 bits': dict(id=2**60),
}


@pytest.fixture
def faulty(tmp_path):
    """A file with a fault of each kind, and its images."""
    folder = tmp_path / 'images'
    folder.mkdir()
    found = pictures(folder)
    names = [draw(folder, 'good.jpg'), *sorted(set(found.values()))]
    images = [
        dict(id=i, file_name=name, width=64, height=48)
        for i, name in enumerate(names, 1)
    ]
    images += [
        dict(id='77', file_name='a\\b.jpg', width=64, height=48),
        dict(id=1, file_name='good.jpg', width=64, height=48),
        dict(id=78, width=64, height=48),
        dict(id=79, file_name='good.jpg', width='64', height=-1),
    ]
    annotations = [
        dict(id=i + 1, image_id=i + 1, category_id=1, bbox=BOX, area=300,
             iscrowd=0, segmentation=[[4, 8, 24, 8, 24, 24]])
        for i in range(len(names))
    ]  # fmt: skip
    for change in ANNOTATIONS.values():
        annotations.append(
            {**annotations[0], 'id': len(annotations) + 100, **change}
        )
    annotations.append({**annotations[0], 'id': 5000})
    path = tmp_path / 'ann.json'
    path.write_text(
        json.dumps(
            dict(
                images=images,
                annotations=annotations,
                categories=[
                    dict(id=1, name='a'),
                    dict(id=2, name='a'),
                    dict(id=2, name='b'),
                    dict(id='x', name=None),
                ],
            )
        )
    )
    return path, folder, found


#: Values that a fault may have, anywhere.
ODD = ('1', 1.5, True, -1, None, 2**63, 10**400, [], {}, [[]], 'x' * 9999,
       '\ud800', math.nan, -math.inf)  # fmt: skip
PLACES = (
    *(('images', key) for key in ('id', 'width', 'file_name')),
    *(('categories', key) for key in ('id', 'name')),
    *(
        ('annotations', key)
        for key in (
            *('id', 'image_id', 'category_id', 'bbox', 'area'),
            *('iscrowd', 'segmentation'),
        )
    ),
)


@pytest.mark.parametrize('part, key', PLACES)
def test_no_value_anywhere_ends_in_a_traceback(
    tmp_path, monkeypatch, capsys, part, key
):
    draw(tmp_path, '1.jpg')
    for number, value in enumerate(ODD):
        values = [value]
        if key == 'bbox':
            values += [[value, 1, 2, 3]]
        if key == 'segmentation':
            rle = dict(size=[48, 64])
            values += [[[value, 1, 2, 3, 4, 5]], {**rle, 'counts': [value]}]
            values += [{**rle, 'counts': value}, dict(size=value, counts='')]
        for place, odd in enumerate(values):
            content = dict(
                images=[dict(id=1, file_name='1.jpg', width=64, height=48)],
                categories=[dict(id=1, name='a')],
                annotations=[
                    dict(id=1, image_id=1, category_id=1, bbox=BOX, area=9)
                ],
            )
            content[part][0][key] = odd
            path = tmp_path / f'{number}.{place}.json'
            path.write_text(json.dumps(content))
            for more in ((tmp_path,), ('--fix', path.with_suffix('.fixed'))):
                status = run(monkeypatch, path, *more)
                output = capsys.readouterr()
                assert status in (0, 1), output.err
                assert (status == 0) == ('no errors' in output.out)
                assert len(output.out) < 4000


def test_images_elsewhere_are_told_and_the_others_looked_at(
    tmp_path, monkeypatch, capsys
):
    images = [
        dict(id=i, file_name=name, width=64, height=48)
        for i, name in enumerate(('s3://mine/1.jpg', 'absent.jpg'))
    ]
    path = tmp_path / 'ann.json'
    path.write_text(
        json.dumps(dict(images=images, categories=[], annotations=[]))
    )
    assert run(monkeypatch, path, tmp_path, '--json') == 1
    record = json.loads(capsys.readouterr().out)
    assert record['errors'] == {'image missing': 1}
    assert record['notes']['file_name that is not a local file'] == 1


def test_a_repaired_file_is_only_written_where_none_is(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / 'ann.json'
    path.write_text('{"images": [], "categories": [], "annotations": []}')
    (tmp_path / 'link.json').symlink_to(tmp_path / 'elsewhere.json')
    for name in ('ann.json', 'link.json', 'absent/ann.json'):
        assert run(monkeypatch, path, '--fix', tmp_path / name) == 2
        assert name in capsys.readouterr().err
    assert not (tmp_path / 'elsewhere.json').exists()


def test_a_misspelt_command_names_the_nearest(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmfrozen', 'chek'])
    assert main() == 2
    assert "Did you mean 'check'?" in capsys.readouterr().err


def test_every_kind_is_found_counted_and_shown(faulty, monkeypatch, capsys):
    path, folder, pixels = faulty
    assert run(monkeypatch, path, folder, '--json') == 1
    record = json.loads(capsys.readouterr().out)
    found = {**record['errors'], **record['notes']}
    expected = {
        *pixels,
        *ANNOTATIONS,
        'image id',
        'image id twice',
        'category id',
        'category id twice',
        'category name of several entries',
        'file_name of several entries',
        'file_name with backslashes',
        'no file_name',
        'annotation twice',
        'category without annotations',
        'image without annotations',
    }
    assert expected - found.keys() == set()
    assert len(found) >= 40
    for kind, name in pixels.items():
        assert any(name in text for text in record['examples'][kind])
    assert all(1 <= len(x) <= 3 for x in record['examples'].values())
    assert run(monkeypatch, path, folder) == 1
    table = capsys.readouterr().out
    assert 'RLE length' in table and 'absent.jpg' in table


def test_what_is_safe_is_repaired_into_a_new_file(
    tmp_path, monkeypatch, capsys
):
    Image.new('RGB', (64, 48)).save(tmp_path / '1.jpg')
    good = dict(id=7, image_id=1, category_id=1, bbox=BOX, area=320, iscrowd=0)
    (tmp_path / 'deep').mkdir()
    Image.new('RGB', (64, 48)).save(tmp_path / 'deep/2.jpg')
    content = dict(
        images=[
            dict(id='1', file_name='1.jpg', width='64', height='48'),
            dict(id='2', file_name='deep\\2.jpg', width=64.0, height=48),
        ],
        categories=[dict(id='1', name='a')],
        annotations=[
            {**good, 'image_id': '1'},
            {**good, 'image_id': '2', 'area': None},
            {**good, 'image_id': '3'},
            {**good, 'bbox': None},
        ],
    )
    path, out = tmp_path / 'export.json', tmp_path / 'train.json'
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    options = dict(
        type='CheckedCocoDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img=''),
        metainfo=dict(classes=('a',)),
        pipeline=[],
    )
    with pytest.raises(ValueError, match='must have'):
        DATASETS.build({**options, 'ann_file': path.name})
    assert run(monkeypatch, path, '--fix', out) == 1
    assert '0 errors are left' in capsys.readouterr().out
    assert path.read_bytes() == before
    assert run(monkeypatch, out, tmp_path) == 0
    built = DATASETS.build({**options, 'ann_file': out.name})
    assert [len(built.get_data_info(i)['instances']) for i in (0, 1)] == [1, 1]
    assert run(monkeypatch, path, '--fix', out) == 2, 'nothing is replaced'


@pytest.mark.parametrize(
    'content, words',
    [
        (b'{"images": [', 'must be complete JSON'),
        (b'[]', 'must have lists of images'),
        (b'[' * 100_000, 'nested lists'),
        (b'{"images": ' + b'9' * 5000 + b'}', 'must be complete JSON'),
        (b'\xef\xbb\xbf{}', 'BOM'),
        (b'{"images": [], "categories": "\xff"}', 'must be UTF-8'),
        (b'', 'must be complete JSON'),
        (gzip.compress(b'{}', mtime=0), 'Unpack it'),
        (None, 'must be an existing file'),
    ],
)
def test_what_is_no_annotation_file_is_one_line_and_status_2(
    tmp_path, monkeypatch, capsys, content, words
):
    path = tmp_path / 'x.json'
    if content is not None:
        path.write_bytes(content)
    assert run(monkeypatch, path) == 2
    output = capsys.readouterr().err
    assert words in output and output.count('\n') == 1


def test_a_good_data_set_has_status_0(mini_lvis, monkeypatch, capsys):
    ann = mini_lvis / 'annotations/lvis_v1_train.json'
    assert run(monkeypatch, ann, mini_lvis) == 0
    output = capsys.readouterr().out
    assert 'no errors' in output
    assert 'file_name' not in output  # LVIS has a coco_url in its place


def test_what_is_right_beside_a_fault_is_counted(
    tmp_path, monkeypatch, capsys
):
    """In the middle of what is looked at together."""
    good = dict(image_id=1, category_id=1, bbox=BOX, area=9)
    changes = {250: dict(bbox=None), 260: dict(area=0), 270: dict(iscrowd=1)}
    content = dict(
        images=[dict(id=1, file_name='1.jpg', width=64, height=48)],
        categories=[dict(id=1, name='a')],
        annotations=[
            {**good, 'id': i, **changes.get(i, {})} for i in range(300)
        ],
    )
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(content))
    assert run(monkeypatch, path, '--json') == 1
    record = json.loads(capsys.readouterr().out)
    assert record['errors'] == {'bbox': 1}
    assert record['notes']['area of 0 or less'] == 1
    assert record['examples']['area of 0 or less'] == [
        f'annotation 260: {BOX}'
    ]
    assert record['numbers']['objects'] == 297
    assert record['numbers']['crowds'] == 1


def test_whole_numbers_of_polygons_stay_whole_in_a_repaired_file(
    tmp_path, monkeypatch
):
    shape = [[4, 8, 24, 8.5, 24, 24]]
    content = dict(
        images=[dict(id='1', file_name='1.jpg', width=64, height=48)],
        categories=[dict(id=1, name='a')],
        annotations=[
            dict(id=1, image_id=1, category_id=1, bbox=BOX, area=9,
                 segmentation=shape)
        ],
    )  # fmt: skip
    path, out = tmp_path / 'ann.json', tmp_path / 'out.json'
    path.write_text(json.dumps(content))
    assert run(monkeypatch, path, '--fix', out) == 1
    found = json.loads(out.read_text())['annotations'][0]['segmentation']
    assert json.dumps(found) == json.dumps(shape)


@pytest.mark.parametrize(
    'text, number',
    [
        *((x, None) for x in ('1_0', '\u0661', ' 1', '1 ', '1e3', '+1', '01')),
        *((x, None) for x in ('-0', '1.0', '', True, False, 1.5, math.nan)),
        *(('10', 10), (1.0, 1), (-0.0, 0), (2.0**60, None)),
    ],
)
def test_an_id_is_repaired_only_where_it_means_one_number(
    tmp_path, monkeypatch, capsys, text, number
):
    content = dict(
        images=[dict(id=text, file_name='1.jpg', width=64, height=48)],
        categories=[],
        annotations=[],
    )
    path, out = tmp_path / 'ann.json', tmp_path / 'out.json'
    path.write_text(json.dumps(content))
    assert run(monkeypatch, path, '--fix', out, '--json') == 1
    record = json.loads(capsys.readouterr().out)
    assert record['errors'] == {'image id': 1}
    left = {} if number is not None else record['errors']
    assert record['errors_left'] == left
    if number is not None:
        found = json.loads(out.read_text())['images'][0]['id']
        assert (type(found), found) == (int, number)


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir])
def test_an_annotation_file_that_is_no_file_is_one_line(
    tmp_path, monkeypatch, capsys, make
):
    make(tmp_path / 'ann.json')
    assert run(monkeypatch, tmp_path / 'ann.json') == 2
    output = capsys.readouterr().err
    assert 'must be an existing file' in output and output.count('\n') == 1
