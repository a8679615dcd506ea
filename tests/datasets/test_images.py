"""Files under the name of an image that nobody can train on."""

import os
import struct
import time
import zlib

import pytest
from PIL import Image, ImageFile

from mmfrozen.datasets import check_images, images
from mmfrozen.datasets.images import inspect_image


def png(width, height):
    """A PNG whose header promises more than it holds."""
    parts = (
        (b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)),
        (b'IDAT', zlib.compress(bytes(100))),
        (b'IEND', b''),
    )
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data))
        + kind
        + data
        + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in parts
    )


def make_bomb(path):
    path.write_bytes(png(60_000, 60_000))


def make_device(path):
    path.symlink_to('/dev/zero')


def make_loop(path):
    path.symlink_to(path)


MAKERS = {
    'pipe': (os.mkfifo, 'is not a regular file'),
    'folder': (os.mkdir, 'is not a regular file'),
    'device': (make_device, 'is not a regular file'),
    'link to itself': (make_loop, 'cannot be read'),
    'bomb': (make_bomb, 'cannot be read (Image size'),
}


@pytest.mark.parametrize('name', MAKERS)
def test_what_is_no_image_is_one_line_and_waits_for_nobody(tmp_path, name):
    make, words = MAKERS[name]
    path = tmp_path / '1.png'
    make(path)
    for width, height in ((64, 48), (60_000, 60_000)):
        ((kind, text),) = inspect_image(str(path), width, height)
        assert kind == 'image unreadable' and words in text
        info = dict(img_path=str(path), width=width, height=height)
        with pytest.raises(ValueError, match='got 1 of 1') as caught:
            check_images([info])
        assert words in str(caught.value)
        assert '\n' not in str(caught.value)


def test_a_file_without_permission_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / '1.png'
    Image.new('RGB', (64, 48)).save(path)

    def forbid(name):  # root may read whatever the mode
        raise PermissionError(13, 'Permission denied', name)

    monkeypatch.setattr(Image, 'open', forbid)
    ((kind, text),) = inspect_image(str(path), 64, 48)
    assert kind == 'image unreadable' and 'Permission denied' in text
    info = dict(img_path=str(path), width=64, height=48)
    with pytest.raises(ValueError, match='Permission denied'):
        check_images([info])


def test_huge_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    """Sixteen of them at once would take all memory."""
    path = tmp_path / '1.png'
    Image.new('RGB', (64, 48)).save(path)
    running, most = [], []
    load = ImageFile.ImageFile.load

    def watched(image):
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, 'load', watched)
    infos = [dict(img_path=str(path), width=64, height=48)] * 8
    check_images(infos)
    assert max(most) > 1
    most.clear()
    monkeypatch.setattr(images, 'HUGE', 64 * 48 - 1)
    check_images(infos)
    assert max(most) == 1
