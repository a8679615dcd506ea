"""Filling: the same views whatever happens on the way."""

import json
import resource
import shutil

import pytest
import torch
from mmengine.registry import init_default_scope

from mmfrozen.config_file import build_train_dataset
from mmfrozen.feature_cache import FeatureStore, Images, fill, writer
from mmfrozen.feature_cache.store import find_damage


def fill_quietly(config, folder, **options):
    options = dict(views=2, storage='fp32', say=len) | options
    return fill(config, folder, **options)


def contents(folder):
    """Bytes of each view by image and number."""
    store = FeatureStore(folder)
    store.check()
    return {
        (view.image, view.number): (
            shard.sample(row),
            [part[row].clone() for parts in shard.levels for part in parts],
        )
        for shard in store.shards
        for row, view in enumerate(shard.content.views)
    }


def assert_same(found, wanted, **tolerance):
    assert found.keys() == wanted.keys()
    for key, (sample, levels) in wanted.items():
        assert found[key][0] == sample
        for a, b in zip(found[key][1], levels, strict=True):
            torch.testing.assert_close(a, b, **tolerance)


def images_of(config):
    init_default_scope('mmdet')
    return Images(build_train_dataset(config))


def test_a_filling_that_was_ended_goes_on_with_the_same_bits(
    cached, tmp_path, monkeypatch
):
    config, whole = cached
    monkeypatch.setattr(writer, 'SHARD_BYTES', 1)  # a file a batch

    def ends(batches):
        for number, batch in enumerate(batches):
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    folder = tmp_path / 'cache'
    with pytest.raises(KeyboardInterrupt):
        fill_quietly(config, folder, progress=ends)
    assert len(contents(folder)) == 4
    part = folder / 'x.safetensors.mmfrozen-part'
    part.touch()
    filled = fill_quietly(config, folder)
    assert (filled.num_new, filled.num_missing) == (4, 0)
    assert not part.exists()
    assert_same(contents(folder), contents(whole), rtol=0, atol=0)
    assert fill_quietly(config, folder).num_new == 0


def test_a_forward_pass_in_bf16_gives_features_near_those_of_fp32(
    cached, tmp_path
):
    config, whole = cached
    fill_quietly(config, tmp_path / 'cache', forward='bf16')
    found, wanted = contents(tmp_path / 'cache'), contents(whole)
    assert_same(found, wanted, rtol=0.2, atol=0.2)
    with pytest.raises(AssertionError):  # they are of bf16
        assert_same(found, wanted, rtol=1e-4, atol=1e-4)


def test_two_shares_in_two_folders_are_the_whole(cached, tmp_path):
    config, whole = cached
    filled = [
        fill_quietly(config, tmp_path / str(i), share=(i, 2)) for i in (1, 2)
    ]
    assert sum(f.num_new for f in filled) == 8
    assert all(f.num_new and f.num_missing for f in filled)
    for path in (tmp_path / '2').iterdir():
        shutil.copy(path, tmp_path / '1')
    # in other company
    found = contents(tmp_path / '1')
    assert_same(found, contents(whole), rtol=1e-4, atol=1e-4)


def test_one_new_image_is_all_that_is_computed(cached, tmp_path, config):
    shutil.copytree(cached[1], tmp_path / 'cache')
    config.train_dataloader.dataset.dataset.indices = [5, 0, 1, 2, 3]
    filled = fill_quietly(config, tmp_path / 'cache')
    assert (filled.num_images, filled.num_new) == (5, 2)
    places = FeatureStore(tmp_path / 'cache').places(images_of(config), None)
    assert places.shape == (5, 2, 2)


def test_images_that_are_repeated_and_pasted_are_cached_by_what_they_show(
    cached, tmp_path, config
):
    repeated = config.train_dataloader.dataset
    repeated.oversample_thr = 1.0
    pipeline = repeated.dataset.pipeline
    config.train_dataloader.dataset = dict(
        type='mmfrozen.CopyPasteDataset',
        dataset=repeated,
        pipeline=[dict(type='mmfrozen.SimpleCopyPaste'), pipeline.pop()],
    )
    for share in (2, 1):  # in whatever order
        filled = fill_quietly(config, tmp_path / 'cache', share=(share, 2))
    assert (filled.num_images, filled.num_wanted) == (4, 8)
    assert filled.num_missing == 0
    images = images_of(config)
    assert len(images.rows) > 4 and set(images.rows) == {0, 1, 2, 3}
    fill_quietly(config, tmp_path / 'whole')
    found, wanted = contents(tmp_path / 'cache'), contents(tmp_path / 'whole')
    assert_same(found, wanted, rtol=1e-4, atol=1e-4)
    # pasted into others: an image less makes other views
    repeated.dataset.indices = 3
    with pytest.raises(ValueError, match='other images to mix with'):
        fill_quietly(config, tmp_path / 'cache')


def test_an_image_with_other_bytes_or_boxes_is_another(
    mini_lvis, tmp_path, config
):
    before = images_of(config)
    root = tmp_path / 'data'
    shutil.copytree(mini_lvis, root)
    config.train_dataloader.dataset.dataset.data_root = str(root)
    moved = images_of(config)
    assert moved.digests == before.digests
    path = root / 'train2017' / list(moved.stamps[1])[0].partition('|')[0]
    assert path.exists()
    path.write_bytes(path.read_bytes() + b'\0')
    path = root / 'annotations/lvis_v1_train.json'
    content = json.loads(path.read_text())
    image = int(list(moved.stamps[2])[0].partition('.')[0])
    for annotation in content['annotations']:
        if annotation['image_id'] == image:
            annotation['bbox'][2] -= 1
    path.write_text(json.dumps(content))
    known = {k: x for stamps in moved.stamps for k, x in stamps.items()}
    init_default_scope('mmdet')
    dataset = build_train_dataset(config)
    changed = Images(dataset, known)
    same = [
        a == b for a, b in zip(changed.digests, before.digests, strict=True)
    ]
    assert same == [True, False, False, True]


def thaw(cfg):
    cfg.model.backbone.frozen_stages = 1


def adapt(cfg):
    backbone = cfg.model.backbone
    backbone.pop('frozen_stages')
    cfg.model.backbone = dict(
        type='FrozenBackbone', backbone=backbone, adapters=dict()
    )


def augment_batches(cfg):
    cfg.model.data_preprocessor.batch_augments = [
        dict(type='BatchFixedSizePad', size=(64, 64))
    ]


def vary_sizes(cfg):
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    pipeline[:] = [x for x in pipeline if x.type not in ('RandomCrop', 'Pad')]


def keep_images(cfg):
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='MultiImageMixDataset',
        dataset=dataset,
        pipeline=[dict(type='CachedMixUp', img_scale=(64, 64))],
    )


def lose_path(cfg):
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    pipeline[-1].meta_keys = ('img_id', 'img_shape')


def nest_detector(cfg):
    cfg.model = dict(type='SoftTeacher', detector=cfg.model)


def lose_model(cfg):
    cfg.pop('model')


def lose_loader(cfg):
    cfg.pop('train_dataloader')


def misspell(cfg):
    cfg.train_dataloader.dataset.dataset.type = 'CheckedLVISV1Datset'


@pytest.mark.parametrize(
    'change, words',
    [
        (thaw, 'frozen as a whole.*first is layer2'),
        (adapt, 'frozen as a whole.*first is adapters'),
        (augment_batches, 'without batch_augments'),
        (vary_sizes, 'Views must have one size'),
        (keep_images, 'must not keep images.*CachedMixUp'),
        (lose_path, 'must pack the img_path'),
        (misspell, 'train_dataloader.dataset must build'),
        (nest_detector, 'model.backbone must be set.*got a SoftTeacher'),
        (lose_model, 'model.backbone must be set'),
        (lose_loader, 'train_dataloader.dataset must be set'),
    ],
)
def test_what_cannot_be_cached_is_refused_in_one_line(
    config, tmp_path, change, words
):
    change(config)
    with pytest.raises(ValueError, match=words) as found:
        fill_quietly(config, tmp_path / 'cache')
    assert '\n' not in str(found.value)
    assert not list(tmp_path.glob('cache/*.safetensors'))


def other_weights(cfg, folder):
    path = folder / 'other.pth'
    state = torch.load(cfg.model.backbone.init_cfg.checkpoint)
    state['conv1.weight'] *= 1.01
    torch.save(state, path)
    cfg.model.backbone.init_cfg.checkpoint = str(path)


def other_pipeline(cfg, folder):
    for step in cfg.train_dataloader.dataset.dataset.pipeline:
        if step.type == 'RandomFlip':
            step.prob = 0.25


def other_mean(cfg, folder):
    cfg.model.data_preprocessor.mean = [0, 0, 0]


@pytest.mark.parametrize(
    'change, words',
    [
        (other_weights, 'other weights of the backbone'),
        (other_pipeline, 'other pipeline'),
        (other_mean, 'other data_preprocessor'),
    ],
)
def test_a_folder_of_something_else_is_not_written_to(
    cached, config, tmp_path, change, words
):
    change(config, tmp_path)
    before = sorted(cached[1].iterdir())
    with pytest.raises(ValueError, match=words) as found:
        fill_quietly(config, cached[1])
    assert '\n' not in str(found.value)
    assert sorted(cached[1].iterdir()) == before


def test_another_storage_needs_another_folder(cached):
    with pytest.raises(ValueError, match="--storage must be 'fp32'"):
        fill_quietly(*cached, storage='int8')


def test_too_few_bytes_are_said_after_one_batch(cached, tmp_path):
    with pytest.raises(
        ValueError, match='--max-bytes must have.*8 views'
    ) as e:
        fill_quietly(cached[0], tmp_path / 'cache', max_bytes=400_000)
    assert 'room for 0 more views' in str(e.value)
    assert not list(tmp_path.glob('cache/*.safetensors'))


def test_a_full_disk_ends_in_one_line_and_leaves_no_part(cached, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match='must be written, got') as found:
            fill_quietly(cached[0], tmp_path / 'cache')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert '\n' not in str(found.value)
    names = [path.name for path in (tmp_path / 'cache').iterdir()]
    assert names == ['cache.json']


def test_damage_is_found_file_by_file(cached, tmp_path):
    folder = tmp_path / 'cache'
    shutil.copytree(cached[1], folder)
    assert find_damage(folder) == ([], 1)
    [path] = folder.glob('*.safetensors')
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    [line], _ = find_damage(folder)
    assert path.name in line and 'other bits in view' in line


def test_a_folder_without_a_cache_says_how_to_fill_one(tmp_path):
    with pytest.raises(FileNotFoundError, match='mmfrozen cache fill CONFIG'):
        FeatureStore(tmp_path)
