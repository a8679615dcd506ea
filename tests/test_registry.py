"""Our classes and those of others that have the same names."""

import json
import subprocess
import sys

import pytest
from mmdet import registry as mmdet
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry

import mmfrozen.registry
from mmfrozen.type_names import find_type, known_name
from tests.tiny import ROOT, build, tiny_config

REGISTRIES = {
    name: ours
    for name, ours in vars(mmfrozen.registry).items()
    if isinstance(ours, Registry) and name != 'RUNNERS'  # by runner_type
}
#: Of every registry the names that anybody may have.
GENERIC = {
    name: [n for n in ours.module_dict if n in ours.root.module_dict]
    for name, ours in REGISTRIES.items()
}

# A program of somebody who has classes of our names. It prints for every
# name where the class is from that the plain name builds, and the scoped one.
THEIRS = """
import json, sys
import mmdet.registry, mmengine.registry
from mmengine.registry import DefaultScope
names, package, order = json.loads(sys.argv[1]), *sys.argv[2:]

def register():
    for registry, classes in names.items():
        for name in classes:
            getattr(sys.modules[package + '.registry'], registry) \\
                .register_module(
                    module=type(name, (), {}),
                    force=(package, order) == ('mmengine', 'after'))

if order == 'before':
    register()
import mmfrozen
if order == 'after':
    register()
from mmfrozen.type_names import known_name
for scope in 'mmdet', None:
    with DefaultScope.overwrite_default_scope(scope):
        for registry, classes in names.items():
            build = getattr(mmdet.registry, registry).build
            root = getattr(mmengine.registry, registry).build
            for name in classes:
                assert type(build(dict(type=name))).__module__ == '__main__'
                if scope or package == 'mmengine':
                    got = root(dict(type=name))
                    assert type(got).__module__ == '__main__'
                    assert known_name(type(got)) == ''
                ours = getattr(mmdet.registry, registry).get(
                    'mmfrozen.' + name)
                assert known_name(ours) == name, ours
from mmengine.config import Config
for path in sys.stdin.read().split():
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        stack = [cfg.to_dict()]
        while stack:
            item = stack.pop()
            if isinstance(item, (list, tuple)):
                stack += item
            elif isinstance(item, dict):
                stack += item.values()
                for registry in names:
                    if isinstance(item.get('type'), str):
                        cls = getattr(mmdet.registry, registry).get(
                            item['type'])
                        assert getattr(cls, '__module__', '') != '__main__'
print('fine')
"""
PACK = [
    f'configs/frozen/{name}.py'
    for name in (
        'cascade_mask_rcnn_b7_390e_scp_lvis',
        'cascade_mask_rcnn_dinov3-vit-l_sfp_36e_lvis',
        'mask_rcnn_lite0_mini-lvis',
        'faster_rcnn_rs101_coco',
    )
]


def run(names, package, order, configs=PACK):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', THEIRS]
        + [json.dumps(names), package, order],
        cwd=ROOT,
        capture_output=True,
        text=True,
        input=' '.join(configs),
    )


@pytest.mark.parametrize(
    ('package', 'order'),
    [
        ('mmdet', 'before'),
        ('mmdet', 'after'),
        ('mmengine', 'before'),
        ('mmengine', 'after'),  # which mmengine wants to be forced
    ],
)
def test_classes_of_others_live_beside_ours(package, order):
    done = run(GENERIC, package, order)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('fine\n')


def test_no_name_that_is_taken_stops_the_import():
    names = {name: [*r.module_dict] for name, r in REGISTRIES.items()}
    assert sum(map(len, names.values())) > 30
    done = run(names, 'mmdet', 'before', configs=())
    assert done.returncode == 0, done.stderr


def test_every_class_has_our_scope():
    for ours in REGISTRIES.values():
        assert ours.module_dict
        for name, cls in ours.module_dict.items():
            assert find_type(f'mmfrozen.{name}', ours.root) is cls


def test_generic_names_are_not_mmdetections():
    assert 'SimpleFeaturePyramid' in GENERIC['MODELS']
    for name, names in GENERIC.items():
        theirs = getattr(mmdet, name).module_dict
        assert not theirs.keys() & set(names)


def test_distinct_names_stay_mmdetections():
    assert mmdet.MODELS.get('mmdet.FrozenBackbone') is mmdet.MODELS.get(
        'mmfrozen.FrozenBackbone'
    )


@pytest.mark.parametrize('path', PACK)
def test_plain_names_of_older_configs_mean_ours(path):
    def types(item):
        if isinstance(item, (list, tuple)):
            item = dict(enumerate(item))
        if isinstance(item, dict):
            for key, value in item.items():
                yield from [value] if key == 'type' else types(value)

    scoped = {
        t
        for t in types(Config.fromfile(ROOT / path).to_dict())
        if t.startswith('mmfrozen.')
    }
    assert len(scoped) > 3
    with DefaultScope.overwrite_default_scope('mmdet'):
        for kind in scoped:
            for name in REGISTRIES:
                registry = getattr(mmdet, name)
                plain = find_type(kind.removeprefix('mmfrozen.'), registry)
                assert plain is find_type(kind, registry)


def test_run_of_an_older_config_trains(tmp_path, mini_lvis, resnet18):
    scoped = tiny_config(tmp_path / 'run', mini_lvis, resnet18).pretty_text
    plain = scoped.replace("'mmfrozen.", "'")
    assert scoped != plain
    build(Config.fromstring(plain, '.py')).train()
    written = {path.name for path in (tmp_path / 'run').iterdir()}
    assert {'backbone.json', 'drift.json', 'step_cost.json'} <= written


class FrozenBackbone:
    """Somebody else's."""


def test_types_are_found_however_they_are_written_and_others_not_known():
    ours = find_type('FrozenBackbone', mmdet.MODELS)
    for kind in ('mmdet.FrozenBackbone', 'mmfrozen.FrozenBackbone', ours):
        assert find_type(kind, mmdet.MODELS) is ours
    assert known_name(ours) == 'FrozenBackbone'
    assert known_name(FrozenBackbone) == known_name(None) == ''
    assert find_type('no_such.Thing', mmdet.MODELS) is None
    assert find_type(None, mmdet.MODELS) is None
