"""The page, its charts and its example images."""

import base64
import io
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from PIL import Image

from mmfrozen.evaluation.detections import DetectionArrays
from mmfrozen.evaluation.ground_truth import GroundTruth
from mmfrozen.reports.page import COLOURS
from mmfrozen.reports.strata.captions import curve_caption, summary_line
from mmfrozen.reports.strata.comparison import Request, compare
from mmfrozen.reports.strata.example_images import Examples
from mmfrozen.reports.strata.image_files import ImageFiles
from mmfrozen.reports.strata.page import write_strata_page
from mmfrozen.reports.strata.pictures import draw_examples, write_pictures

from . import strata_data


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return strata_data.write(tmp_path_factory.mktemp('page'))


def request_for(data, **changes):
    options = dict(
        run=data / 'frozen/r.bbox.json',
        control=data / 'finetuned/r.bbox.json',
        ann=data / 'annotations/val.json',
        train_ann=data / 'annotations/train.json',
        num_resamples=20,
    )
    return Request(**{**options, **changes})


@pytest.fixture(scope='module')
def found(data):
    return compare(request_for(data))


@pytest.fixture(scope='module')
def examples(data, found):
    drawer = Examples(
        found.annotations.ground_truth,
        found.detections,
        files=found.files,
        has_masks=False,
    )
    return draw_examples(found.gain, drawer)


@pytest.fixture(scope='module')
def text(tmp_path_factory, found, examples):
    path = tmp_path_factory.mktemp('html') / 'page.html'
    write_strata_page(path, found.gain, examples)
    return path.read_text()


def test_page_needs_no_other_file_and_escapes_names(text, examples):
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources and all(
        s.startswith(('data:image/jpeg;base64,', '#')) for s in sources
    )
    assert '<b>elk' not in text and '&lt;b&gt;elk&lt;/b&gt;' in text
    assert '<a ' not in text
    assert text.count('data:image/jpeg') == len(examples) > 2


def test_every_dot_tells_its_class_to_the_mouse(text, found):
    titles = re.findall(r'<title>([^<]*): [+\N{MINUS SIGN}]', text)
    shown = [r.name for r in found.gain.classes if r.gain.value is not None]
    assert sorted(map(unescape, titles)) == sorted(shown)


@pytest.mark.parametrize(
    'changes',
    [dict(control=None), dict(num_resamples=0, min_images=1000)],
    ids=['a control', 'intervals and ranked classes'],
)
def test_page_is_written_without(tmp_path, data, changes):
    gain = compare(request_for(data, **changes)).gain
    write_strata_page(tmp_path / 'page.html', gain, {})
    text = (tmp_path / 'page.html').read_text()
    assert summary_line(gain) in text
    assert '--images' in text  # how to have examples


def test_pictures_are_written_into_a_new_folder_only(
    tmp_path, found, examples
):
    write_pictures(tmp_path / 'png', found.gain, examples)
    names = {path.name for path in (tmp_path / 'png').iterdir()}
    assert {'by_annotations.png', 'by_bin.png', 'by_class.png'} < names
    assert 'gained_01__b_elk_b_.jpg' in names and 'lost_01_cat.jpg' in names
    with pytest.raises(FileExistsError, match='--png'):
        write_pictures(tmp_path / 'png', found.gain, examples)


# one object in each of two images; which run finds it is the test's choice
@pytest.fixture
def scene(tmp_path):
    boxes = {1: (30, 30, 20, 20), 2: (30, 30, 20, 20)}
    gt = dict(
        images=[
            dict(id=i, file_name=f'{i}.png', height=96, width=96)
            for i in boxes
        ],
        annotations=[
            dict(strata_data.annotation(i, 3, box), id=i)
            for i, box in boxes.items()
        ],
        categories=[dict(id=3, name='cat')],
    )
    for i in boxes:
        Image.new('RGB', (96, 96), 'black').save(tmp_path / f'{i}.png')
    return tmp_path, gt


def draw(scene, sign, image_of_run, image_of_control):
    folder, gt = scene
    runs = {
        name: DetectionArrays.from_dicts(
            [
                dict(
                    image_id=image,
                    category_id=3,
                    bbox=[30.0, 30.0, 20.0, 20.0],
                    score=0.9,
                )
            ]
        )
        for name, image in (('a', image_of_run), ('b', image_of_control))
    }
    return Examples(
        GroundTruth.from_dict(gt),
        runs,
        files=ImageFiles(
            {x['id']: x for x in gt['images']}, folder / 'ann.json', folder
        ),
        has_masks=False,
    ).draw(3, sign)


def is_coloured(panel, colour):
    wanted = [int(COLOURS[colour][i : i + 2], 16) for i in (1, 3, 5)]
    distance = np.abs(np.asarray(panel).astype(int) - wanted).sum(axis=2)
    return (distance < 60).sum() > 100


@pytest.mark.parametrize(('sign', 'image'), [(1, 2), (-1, 1)])
def test_example_shows_where_the_runs_differ_most(scene, sign, image):
    example = draw(scene, sign, image_of_run=2, image_of_control=1)
    assert example.image_id == image
    picture = Image.open(io.BytesIO(example.jpeg))
    middle = picture.width // 2
    # below the tag that says that there is no detection, around the object
    left, right = (
        picture.crop((start + 60, 100, start + 210, 230))
        for start in (0, middle)
    )
    assert is_coloured(left, 'frozen') == (image == 2)
    assert is_coloured(right, 'finetuned') == (image == 1)
    assert example.uri.startswith('data:image/jpeg;base64,')
    assert base64.b64decode(example.uri.partition(',')[2]) == example.jpeg


def test_damaged_image_is_passed_over(scene):
    folder, _ = scene
    (folder / '2.png').write_bytes(b'no image')
    assert draw(scene, 1, image_of_run=2, image_of_control=1).image_id == 1


@pytest.mark.parametrize(
    ('source', 'words'),
    [
        ('data/train.json', '(counted in train.json;'),
        (
            'image_count and instance_count in data/lvis_v1_val.json',
            '(as stated in lvis_v1_val.json;',
        ),
    ],
)
def test_caption_says_that_annotations_are_those_of_training(
    found, source, words
):
    caption = curve_caption(replace(found.gain, train_ann=source))
    assert 'training annotations' in caption and words in caption


@pytest.mark.parametrize(
    'record, file',
    [
        (dict(file_name='val/7.jpg'), 'val/7.jpg'),
        (dict(file_name='7.jpg'), 'images/7.jpg'),
        (dict(coco_url='http://x.org/val2017/7.jpg'), 'val2017/7.jpg'),
        (dict(coco_url='http://x.org/val2017/7.jpg'), 'mine/7.jpg'),
        (dict(file_name='elsewhere/7.jpg'), 'val/7.jpg'),
    ],
)
def test_images_are_found_beside_their_annotations(tmp_path, record, file):
    ann = tmp_path / 'annotations/val.json'
    for path in (ann, tmp_path / file):
        path.parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    files = ImageFiles({7: dict(record, id=7)}, ann)
    assert files.find(7).resolve() == (tmp_path / file).resolve()


def test_images_outside_of_the_named_folder_are_not_read(tmp_path):
    root = tmp_path / 'root'
    root.mkdir()
    (tmp_path / 'secret.jpg').touch()
    names = ['../secret.jpg', str(tmp_path / 'secret.jpg')]
    records = {n: dict(id=n, file_name=x) for n, x in enumerate(names)}
    with pytest.raises(FileNotFoundError, match='--images'):
        ImageFiles(records, tmp_path / 'ann.json', root)
