"""Files of views: whole, or refused."""

import hashlib
import json

import pytest
import torch

from mmfrozen.feature_cache.shard import Shard, View, write_shard
from mmfrozen.feature_cache.storage import pack


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A shard of three views, and what is in it."""
    torch.manual_seed(0)
    levels = [torch.randn(3, 2, 2, 2), torch.randn(3, 1, 1, 1)]
    views = [
        View(f'{i:032x}', i, 'source', {'f': 'd'}, [0.0]) for i in (1, 2, 3)
    ]
    samples = [b'one', b'', b'three']
    path = write_shard(
        tmp_path_factory.mktemp('shard'),
        'key',
        views,
        [pack(level, 'int8') for level in levels],
        samples,
    )
    return path, levels, views, samples


def test_a_shard_holds_what_was_written(written):
    path, levels, views, samples = written
    shard = Shard(path)
    assert shard.content.key == 'key'
    assert [v.number for v in shard.content.views] == [1, 2, 3]
    for row in range(3):
        shard.check(row)
        assert shard.sample(row) == samples[row]
    for level, parts in zip(levels, shard.levels, strict=True):
        for a, b in zip(pack(level, 'int8'), parts, strict=True):
            assert torch.equal(a, b)


def test_the_same_views_make_the_same_file(written, tmp_path):
    path, levels, views, samples = written
    packed = [pack(level, 'int8') for level in levels]
    again = write_shard(tmp_path, 'key', views, packed, samples)
    assert again.name == path.name
    assert again.read_bytes() == path.read_bytes()


def read(path):
    shard = Shard(path)
    for row in range(len(shard.content.views)):
        shard.check(row)
    return [shard.sample(row) for row in range(3)], [
        parts[0].tolist() for parts in shard.levels
    ]


def test_no_flipped_bit_changes_what_is_read(written, tmp_path):
    path = written[0]
    content, whole = path.read_bytes(), read(path)
    copy = tmp_path / path.name
    refused = 0
    for place in range(0, len(content), 3):
        copy.unlink(missing_ok=True)
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        copy.write_bytes(flipped)
        try:
            assert read(copy) == whole  # between two tensors
        except ValueError as error:
            assert str(copy) in str(error) and '\n' not in str(error)
            refused += 1
    assert refused > 0.95 * len(content) / 3


@pytest.mark.parametrize('left', [0, 5, 100, -1])
def test_a_shard_cut_short_is_refused(written, tmp_path, left):
    path = written[0]
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match='must be a complete shard') as found:
        Shard(copy)
    assert 'fill again' in str(found.value)


def test_another_name_is_refused(written, tmp_path):
    copy = tmp_path / f'{"0" * 32}.safetensors'
    copy.write_bytes(written[0].read_bytes())
    with pytest.raises(ValueError, match='does not match its name'):
        Shard(copy)


DEEP = '[' * 100_000 + ']' * 100_000


@pytest.mark.parametrize(
    'header',
    [
        '[]',
        '{}',
        DEEP,
        '{"__metadata__": 1}',
        '{"__metadata__": {"mmfrozen": "{}"}}',
        json.dumps({'__metadata__': {'mmfrozen': DEEP}}),
        *(
            json.dumps(
                {
                    '__metadata__': {'mmfrozen': '{"key": "k", "views": []}'},
                    'ends': dict(dtype='I64', shape=[0], data_offsets=[0, 0]),
                    'samples': one,
                }
            )
            for one in (
                dict(dtype='U8', shape=[9], data_offsets=[0, 4]),
                dict(dtype='U8', shape=[4], data_offsets=[-8, 4]),
                dict(dtype='U8', shape=[4], data_offsets=4),
                dict(dtype='object', shape=[4], data_offsets=[0, 4]),
            )
        ),
    ],
    ids=lambda text: text[:40] + text[-40:],
)
def test_a_header_made_to_harm_is_refused(tmp_path, header):
    """Its name is right: whoever makes it can work that out."""
    text = header.encode()
    start = len(text).to_bytes(8, 'little') + text
    name = hashlib.blake2b(start, digest_size=16).hexdigest()
    path = tmp_path / f'{name}.safetensors'
    path.write_bytes(start + b'1234')
    with pytest.raises(ValueError, match='must be a complete shard') as found:
        Shard(path)
    assert '\n' not in str(found.value) and len(str(found.value)) < 1000
