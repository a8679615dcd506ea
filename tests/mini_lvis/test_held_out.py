"""The part of the training images that rates are chosen on."""

import json

from mmfrozen.mini_lvis.held_out import hold_out


def test_every_image_is_trained_on_or_held_out_with_its_annotations(
    mini_lvis, tmp_path
):
    whole_file = mini_lvis / 'annotations/lvis_v1_train.json'
    whole = json.loads(whole_file.read_text())
    files = hold_out(whole_file, tmp_path / 'held_out')
    train, val = (json.loads(file.read_text()) for file in files)
    assert [len(x['images']) for x in (train, val)] == [19, 5]
    for key in ('images', 'annotations'):
        ids = [{item['id'] for item in x[key]} for x in (train, val)]
        assert not ids[0] & ids[1]
        assert ids[0] | ids[1] == {item['id'] for item in whole[key]}
    for part in (train, val):
        images = {image['id'] for image in part['images']}
        assert {a['image_id'] for a in part['annotations']} <= images
        assert part['categories'] == whole['categories']
    before = [file.read_bytes() for file in files]
    hold_out(whole_file, tmp_path / 'held_out')
    assert [file.read_bytes() for file in files] == before
