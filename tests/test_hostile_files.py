"""Files made to harm, given to everything that opens one."""

import functools
import http.server
import json
import pickle
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.fileio import dump
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version
from PIL import Image

from mmfrozen import memory_limit, run_files
from mmfrozen.datasets.check import read
from mmfrozen.evaluation.ground_truth import GroundTruth
from mmfrozen.evaluation.matches import Matches
from mmfrozen.evaluation.result_files import read_results
from mmfrozen.hooks.guard.init_checks import check_init
from mmfrozen.mini_lvis import Parameters
from mmfrozen.mini_lvis import build as build_mini_lvis
from mmfrozen.registry import DATASETS
from mmfrozen.reports.claims.record import CLAIM_RUN
from mmfrozen.reports.config_text import (
    read_backbone_config,
    read_plain_config,
)
from mmfrozen.reports.runs.work_dir import read_log
from mmfrozen.reports.strata.image_files import ImageFiles
from mmfrozen.reports.verify import verify
from mmfrozen_cli import main
from mmfrozen_cli.pair import last_checkpoint

from .reports.strata import strata_data
from .test_compat import build_runner
from .tiny import ROOT

pytestmark = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6.0'),
    reason='torch reads every file, hostile ones too',
)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, 'w')


@pytest.fixture
def mark(tmp_path):
    """What a payload creates; it is not there after the test."""
    path = tmp_path / 'mark'
    yield path
    assert not path.exists()


def refuse(call, *words, error=ValueError):
    """Call what has to refuse its file in one line, and return that."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert '\n' not in text and len(text) < 1000
    assert all(word in text for word in words), text
    return text


def test_payload_is_one(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / 'it works'))).close()
    assert (tmp_path / 'it works').exists()


def checkpoint(value):
    """A detector's checkpoint with a value where nobody looks for it."""
    return dict(
        state_dict={'backbone.conv1.weight': torch.zeros(64, 3, 7, 7)},
        meta=dict(epoch=0, iter=0, x=value),
        message_hub={},
    )


def write_tar(content, path):
    """The format of torch before 0.1.10."""
    with tarfile.open(path, 'w') as tar:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            part = path.with_name(name)
            part.write_bytes(pickle.dumps(content, 2))
            tar.add(part, name)


FORMATS = {
    'zip': torch.save,
    'legacy': functools.partial(
        torch.save, _use_new_zipfile_serialization=False
    ),
    'pickle': lambda content, path: path.write_bytes(pickle.dumps(content)),
    'tar': write_tar,
}


def build_backbone(path, **options):
    options = options or dict(type='ResNet', depth=18)
    return MODELS.build(
        options | dict(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    )


def load_url(path):
    folder = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=path.parent
    )
    with http.server.HTTPServer(('127.0.0.1', 0), folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            CheckpointLoader.load_checkpoint(
                f'http://127.0.0.1:{server.server_port}/{path.name}'
            )
        finally:
            server.shutdown()


def check_prefix(path):
    """FrozenGuardHook looks for the prefix of init_cfg in the file."""
    model = torch.nn.Module()
    model.backbone = build_backbone(path)
    model.backbone.init_cfg['prefix'] = 'backbone.'
    check_init(model, 'frozen', 'model.backbone')


def verify_against(path):
    good = path.with_name('good.pth')
    torch.save(checkpoint(0), good)
    verify(str(good), str(path))


CHECKPOINTS = {
    'resume': lambda path: build_runner(path.parent / 'w', 1).resume(
        str(path)
    ),
    'load_from': lambda path: build_runner(
        path.parent / 'w', 1
    ).load_checkpoint(str(path)),
    'init_cfg': lambda path: build_backbone(path).init_weights(),
    'TimmBackbone': lambda path: build_backbone(
        path,
        type='mmfrozen.TimmBackbone',
        model_name='test_efficientnet',
    ).init_weights(),
    'a URL': load_url,
    'FrozenGuardHook': check_prefix,
    'mmfrozen verify': lambda path: verify(str(path)),
    'mmfrozen verify --against': verify_against,
}


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize('reader', CHECKPOINTS)
def test_checkpoint_with_a_payload_is_refused(
    reader, form, tmp_path, mark, monkeypatch
):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    path = tmp_path / 'x.pth'
    FORMATS[form](checkpoint(Payload(mark)), path)
    refuse(lambda: CHECKPOINTS[reader](path), 'must', str(path.name))


@pytest.mark.parametrize(
    'key', ['optimizer', 'message_hub', 'param_schedulers', 'state_dict']
)
def test_state_with_a_payload_is_not_resumed(key, tmp_path, mark):
    content = checkpoint(0) | {key: {'x': Payload(mark)}}
    path = tmp_path / 'w' / 'iter_1.pth'
    path.parent.mkdir()
    torch.save(content, path)
    (path.parent / 'last_checkpoint').write_text(str(path))
    runner = build_runner(path.parent, 2, resume=True)
    refuse(runner.train, 'nothing but', str(path))


@pytest.mark.parametrize('named', ['/elsewhere/x.pth', '../x.pth', '--eval'])
def test_pair_goes_on_from_no_checkpoint_outside_of_its_work_dir(
    named, tmp_path, monkeypatch
):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    monkeypatch.chdir(work_dir.parent)
    assert last_checkpoint(work_dir) is None
    for good in ('run/iter_1.pth', work_dir / 'iter_1.pth'):
        (work_dir / 'last_checkpoint').write_text(f'{good}\n')
        assert last_checkpoint(work_dir) == work_dir / 'iter_1.pth'
    (work_dir / 'last_checkpoint').write_text(named)
    refuse(lambda: last_checkpoint(work_dir), named)


@pytest.fixture
def truth():
    return GroundTruth.from_dict(annotations())


def annotations(**image):
    return dict(
        images=[dict(id=1, width=8, height=8, file_name='a.jpg') | image],
        categories=[dict(id=1, name='cat')],
        annotations=[
            dict(
                id=1,
                image_id=1,
                category_id=1,
                bbox=[0, 0, 4, 4],
                area=16,
                iscrowd=0,
                segmentation=[[0, 0, 4, 0, 4, 4]],
            )
        ],
    )


RESULTS = {
    'the list': lambda mark: Payload(mark),
    'a sample': lambda mark: [Payload(mark)],
    'the metainfo': lambda mark: [sample(img_path=Payload(mark))],
    'the predictions': lambda mark: [
        sample(pred_instances=dict(bboxes=Payload(mark)))
    ],
    'a storage': lambda mark: [sample(x=Storage(mark))],
}


def sample(**more):
    empty = dict(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0)
    )
    return dict(img_id=1, pred_instances=empty) | more


class Storage(Payload):
    """Hides in what tensors are stored in."""

    def __reduce__(self):
        return torch.storage._load_from_bytes, (
            pickle.dumps(Payload(self.mark)),
        )


@pytest.mark.parametrize('protocol', [0, 2, 5])
@pytest.mark.parametrize('place', RESULTS)
def test_results_with_a_payload_are_refused(
    place, protocol, tmp_path, mark, truth
):
    path = tmp_path / 'results.pkl'
    content = RESULTS[place](mark)
    path.write_bytes(pickle.dumps(content, protocol))
    refuse(lambda: read_results(path, truth), 'results.pkl must', str(path))


class Unknown:
    """An object of a package that is not installed where results are read."""


def test_objects_that_results_do_not_need_are_left_out(tmp_path, truth):
    path = tmp_path / 'results.pkl'
    more = dict(mine=Unknown(), gt=np.zeros(2), tags={'a'})
    dump([sample(**more)], str(path))
    assert len(read_results(path, truth)) == 0


def matches_of(path, **columns):
    np.savez(path, **columns)
    return path


@pytest.mark.parametrize('kind', ['an object array', 'a pickle', 'an array'])
def test_matches_with_a_payload_are_refused(kind, tmp_path, mark):
    path = tmp_path / 'matches.bbox.npz'
    objects = np.array([Payload(mark)], dtype=object)
    if kind == 'an object array':
        np.savez(path, **{x: objects for x in Matches.__annotations__})
    elif kind == 'a pickle':
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        with path.open('wb') as stream:
            np.save(stream, objects)
    refuse(lambda: Matches.load(path), 'Matches must', str(path))


def test_config_in_a_work_dir_is_not_run(tmp_path, mark, monkeypatch, capsys):
    data = strata_data.write(tmp_path / 'data', images=False)
    truth = json.loads((data / 'annotations/val.json').read_text())
    found = strata_data.samples(
        truth, strata_data.detect(truth, 0.7), list(strata_data.NAMES)
    )
    work_dir = tmp_path / 'run'
    config = work_dir / '1/vis_data/config.py'
    config.parent.mkdir(parents=True)
    dump(list(found), str(work_dir / 'results.pkl'))
    words = ['mmfrozen', 'strata', work_dir, '--resamples', 0]
    for name in ('train', 'val'):
        option = '--train-ann' if name == 'train' else '--ann'
        words += [option, data / f'annotations/{name}.json']
    words = list(map(str, words))
    monkeypatch.setattr(sys, 'argv', words)
    config.write_text('model = dict(x=1)\n')
    assert main() == 0
    capsys.readouterr()
    config.write_text(f'model = dict(x=open({str(mark)!r}, "w"))\n')
    monkeypatch.setattr(sys, 'argv', words)
    assert main() == 2
    line = capsys.readouterr().err
    assert line.startswith('error: A config must') and '--config' in line
    assert line.count('\n') == 1


DEPTH = 100_000
DEEP = '[' * DEPTH + ']' * DEPTH
DIGITS = '1' * 10**6
BOMBS = {
    'brackets': '[' * 10**7,
    'deep': '{"x": ' + DEEP + '}',
    'deep dicts': '{"x": ' * DEPTH + '1' + '}' * DEPTH,
    'deep in a result': '[{"image_id": 1, "x": ' + DEEP + '}]',
    'digits': '{"iter": ' + DIGITS + ', "images": ' + DIGITS + '}',
    'digits of a result': '[{"image_id": ' + DIGITS + '}]',
    'a long text': '{"' + 'x' * 10**7 + '": 1}',
    'keys again': '{' + '"iter": 1, ' * 10**5 + '"iter": 2}',
}


def check_dataset(path):
    DATASETS.build(
        dict(
            type='CheckedCocoDataset',
            ann_file=str(path),
            data_prefix=dict(img=''),
            pipeline=[],
        )
    )


JSON_READERS = {
    'check': read,
    'ground truth': GroundTruth.read,
    'data set': check_dataset,
    'results': lambda path: read_results(
        path, GroundTruth.from_dict(annotations())
    ),
    'log': read_log,
    **{
        file.name: file.read
        for file in (
            run_files.BACKBONE,
            run_files.DRIFT,
            run_files.NON_FINITE,
            run_files.STEP_COST,
            run_files.STRATA,
            run_files.STEPS_IN_TURN,
            CLAIM_RUN,
        )
    },
}


@pytest.mark.parametrize('bomb', BOMBS)
@pytest.mark.parametrize('reader', JSON_READERS)
def test_json_that_is_a_bomb_is_refused(reader, bomb, tmp_path):
    path = tmp_path / 'x.json'
    path.write_text(BOMBS[bomb])
    if reader == 'log':  # the last line may be half written
        path.write_text(BOMBS[bomb] + '\n{}\n')
        if bomb in ('a long text', 'keys again'):
            return  # which are records
    refuse(lambda: JSON_READERS[reader](path), str(path))


def test_manifest_that_is_a_bomb_is_refused(tmp_path):
    (tmp_path / 'mini-lvis.json').write_text(DEEP)
    refuse(lambda: build_mini_lvis(tmp_path, Parameters()), str(tmp_path))


@pytest.mark.parametrize(
    'text',
    [
        f'model = dict(backbone={DEEP})',
        f'model = dict(backbone={"+".join("1" * DEPTH)})',
        f'model = dict(backbone={"-" * DEPTH}1)',
        f'model = dict(backbone=a{".b" * DEPTH})',
        f'model = dict(backbone=dict(x={DIGITS}))',
        'model = dict(backbone={[]: 1})',
    ],
    ids=['lists', 'sum', 'signs', 'attributes', 'digits', 'a list as key'],
)
@pytest.mark.parametrize('reader', [read_backbone_config, read_plain_config])
def test_text_of_a_config_that_is_a_bomb_is_refused(reader, text):
    refuse(lambda: reader(text))


READ_WITHOUT_MEMORY = """
import sys
from pathlib import Path
from mmfrozen import memory_limit
from tests.test_hostile_files import JSON_READERS
memory_limit._free = lambda resident: 1 << 24
for name in ('check', 'ground truth', 'data set'):
    try:
        JSON_READERS[name](Path(sys.argv[1]))
    except ValueError as error:
        print(str(error).replace('\\n', ' '))
"""


def test_annotations_that_do_not_fit_into_memory_are_refused(tmp_path):
    """In a process of its own: this one frees memory of tests before."""
    if sys.platform != 'linux':
        pytest.skip('other systems are left to their own ways')
    path = tmp_path / 'x.json'
    path.write_text(f'{{"images": "{"x" * (1 << 27)}"}}')
    done = subprocess.run(
        [sys.executable, '-c', READ_WITHOUT_MEMORY, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = [x for x in done.stdout.splitlines() if str(path) in x]
    assert len(lines) == 3, done.stderr[-500:]
    assert all('must fit into memory' in line for line in lines)


def test_memory_is_as_free_as_before_once_a_file_is_read(tmp_path):
    resource = pytest.importorskip('resource')
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ZeroDivisionError), memory_limit.memory_limit():
        assert resource.getrlimit(resource.RLIMIT_AS) != before
        raise ZeroDivisionError
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize('reader', ['log', 'strata.json'])
def test_record_of_gigabytes_is_not_read(reader, tmp_path):
    path = tmp_path / 'x.json'
    with path.open('wb') as stream:
        stream.truncate(1 << 40)  # which takes no place on the disk
    refuse(lambda: JSON_READERS[reader](path), 'must have at most', str(path))


OUTSIDE = ['../a.jpg', 'x/../../a.jpg', '..\\a.jpg', '{folder}/a.jpg']


@pytest.fixture
def images(tmp_path):
    """A folder of images, and an image beside it."""
    folder = tmp_path / 'images'
    for place in (tmp_path, folder, folder / 'deep'):
        place.mkdir(exist_ok=True)
        Image.new('RGB', (8, 8)).save(place / 'a.jpg')
    return folder


def write_annotations(images, name):
    path = images.parent / 'x.json'
    name = name.format(folder=images.parent)
    path.write_text(json.dumps(annotations(file_name=name)))
    return path, name


def build_dataset(path, folder):
    return DATASETS.build(
        dict(
            type='CheckedCocoDataset',
            ann_file=str(path),
            data_prefix=dict(img=str(folder)),
            metainfo=dict(classes=('cat',)),
            pipeline=[],
        )
    )


@pytest.mark.parametrize('name', OUTSIDE)
def test_image_outside_of_its_folder_is_refused_and_never_opened(
    name, images, monkeypatch, capsys
):
    path, name = write_annotations(images, name)
    monkeypatch.setattr(
        'mmfrozen.datasets.check.inspect_image', lambda *_: 1 / 0
    )
    for words in ([path], [path, images]):
        words = ['mmfrozen', 'check', '--json', *map(str, words)]
        monkeypatch.setattr(sys, 'argv', words)
        fault = 'file_name outside of the image folder'
        if len(words) == 4 and name.startswith('/'):
            continue  # it may be in the folder, which is not known
        assert main() == 1
        record = json.loads(capsys.readouterr().out)
        assert record['errors'] == {fault: 1}
        assert record['examples'][fault] == [f'image 1: {name!r}']
    line = refuse(lambda: build_dataset(path, images), 'image 1', repr(name))
    assert 'data_prefix.img' in line
    record = dict(id=1, file_name=name)
    files = ImageFiles({1: record}, images / 'x' / 'y.json')
    assert files.find(1) in (None, images.resolve() / 'a.jpg')


@pytest.mark.parametrize(
    'name', ['a.jpg', 'deep/a.jpg', '{folder}/images/a.jpg']
)
@pytest.mark.parametrize('prefix', ['absolute', '../images', 'images/'])
def test_image_in_its_folder_is_read(name, prefix, images, monkeypatch):
    path, _ = write_annotations(images, name)
    beside = images.parent / 'beside'
    beside.mkdir()
    monkeypatch.chdir(beside if '..' in prefix else images.parent)
    folder = images if prefix == 'absolute' else prefix
    assert len(build_dataset(path, folder)) == 1


def test_link_in_the_folder_is_followed(images):
    (images / 'link.jpg').symlink_to(images.parent / 'a.jpg')
    path, _ = write_annotations(images, 'link.jpg')
    assert len(build_dataset(path, images)) == 1


def test_folder_that_is_the_root_lets_every_absolute_name_pass(images):
    path, _ = write_annotations(images, '{folder}/a.jpg')
    assert len(build_dataset(path, '/')) == 1


CONFIGS = {
    'lists.py': f'model = {DEEP}',
    'sum.py': f'model = {"+".join("1" * DEPTH)}',
    'signs.py': f'model = {"-" * DEPTH}1',
    'lists.json': f'{{"model": {DEEP}}}',
    'digits.json': f'{{"model": {DIGITS}}}',
    'lists.yaml': f'model: {DEEP}\n',
}


@pytest.mark.parametrize(
    'command', ['describe', 'freeze', 'savings', 'browse']
)
@pytest.mark.parametrize('name', CONFIGS)
def test_config_that_is_a_bomb_is_refused(
    name, command, tmp_path, monkeypatch, capsys
):
    path = tmp_path / name
    path.write_text(CONFIGS[name])
    monkeypatch.setattr(sys, 'argv', ['mmfrozen', command, str(path)])
    monkeypatch.setattr('logging.disable', lambda level: None)
    assert main() in (1, 2)
    first, *beneath = capsys.readouterr().err.splitlines()
    assert first.startswith('error: ') and len(beneath) < 4
