"""timm classifiers as backbones."""

import pytest
import timm
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from safetensors.torch import save_file

from mmfrozen.mini_lvis.weights import export_lite0

NAME = 'test_efficientnet'  # timm's smallest


def build(checkpoint=None, name=NAME, **options):
    init_cfg = checkpoint and dict(
        type='Pretrained', checkpoint=str(checkpoint)
    )
    backbone = MODELS.build(
        dict(
            type='TimmBackbone', model_name=name, init_cfg=init_cfg, **options
        )
    )
    backbone.init_weights()
    return backbone.eval()


def classifier_file(folder, name=NAME, change=None, **options):
    """Weights of a random classifier, as ``torch.save`` writes them."""
    torch.manual_seed(3)
    model = timm.create_model(name, **options)
    for buffer in model.buffers():
        if buffer.dtype == torch.float32:
            buffer.uniform_(0.5, 1.5)
    state = model.state_dict()
    if change:
        change(state)
    path = folder / f'{name}.pth'
    torch.save(state, path)
    return path, model.eval()


@pytest.mark.parametrize(
    'name, out_indices, size',
    [
        (NAME, (1, 2, 3), 64),
        ('test_resnet', (1, 2, 3, 4), 64),
        ('test_convnext', (0, 1, 2, 3), 64),
        ('test_vit', (0, 1), 160),
        ('tf_efficientnet_lite0', (2, 3, 4), 64),
    ],
)
def test_features_are_those_of_the_classifier(
    tmp_path, name, out_indices, size
):
    path, classifier = classifier_file(tmp_path, name)
    backbone = build(path, name, out_indices=out_indices)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        ours = backbone(images)
        theirs = classifier.forward_intermediates(
            images, indices=list(out_indices), intermediates_only=True
        )
    for a, b, c in zip(ours, theirs, backbone.channels, strict=True):
        assert a.shape[1] == c
        assert torch.allclose(a, b, atol=1e-5)
    for a, stride in zip(ours, backbone.strides, strict=True):
        assert a.shape[-1] == size // stride


def test_channels_last_features_come_out_channels_first():
    backbone = build(
        name='swin_tiny_patch4_window7_224',
        out_indices=(0, 1),
        model_args=dict(embed_dim=24, depths=(1, 1, 1, 1)),
    )
    first, second = backbone(torch.zeros(1, 3, 224, 224))
    assert first.shape == (1, 24, 56, 56)
    assert second.shape == (1, 48, 28, 28)


SWIN = dict(embed_dim=24, depths=(2, 2, 1, 1))
SIZES = [(96, 160), (100, 150), (33, 225)]  # none is the classifiers' 224
ANY_SIZE = [
    ('vit_tiny_patch16_224', (1,), dict(depth=2)),
    ('vit_small_patch14_reg4_dinov2', (1,), dict(depth=2, embed_dim=48)),
    ('vit_small_patch16_dinov3', (1,), dict(depth=2, embed_dim=48)),
    ('swin_tiny_patch4_window7_224', (0, 1, 2, 3), SWIN),
    ('swinv2_tiny_window8_256', (0, 1, 2, 3), SWIN),
    ('samvit_base_patch16', (1,), dict(depth=2, embed_dim=48, num_heads=2)),
    ('test_convnext', (0, 1, 2, 3), {}),
]


@pytest.mark.parametrize('name, levels, args', ANY_SIZE)
@pytest.mark.parametrize('size', SIZES)
def test_images_of_any_size_give_whole_levels(name, levels, args, size):
    backbone = build(name=name, out_indices=levels, model_args=args)
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, *size))
    strides = zip(features, backbone.strides, strict=True)
    for feature, stride in strides:
        for got, side in zip(feature.shape[-2:], size, strict=True):
            assert got in (side // stride, -(-side // stride))
        assert feature.isfinite().all()


@pytest.mark.parametrize('name, levels, args', ANY_SIZE[:5])
def test_padding_to_whole_patches_is_what_the_detector_would_do(
    name, levels, args
):
    """Zeros at the bottom right, as a padded batch has them."""
    backbone = build(name=name, out_indices=levels, model_args=args)
    images = torch.randn(1, 3, 100, 150)
    patch = 14 if 'patch14' in name else backbone.strides[0]
    padded = F.pad(images, (0, -150 % patch, 0, -100 % patch))
    with torch.no_grad():
        for a, b in zip(backbone(images), backbone(padded), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    'name, levels, size',
    [
        ('beit_base_patch16_224', (0,), (96, 96)),
        ('coat_tiny', (0,), (96, 96)),
        ('gcvit_xxtiny', (0, 1), (100, 150)),
        ('hrnet_w18_small', (1,), (100, 150)),
    ],
)
def test_size_that_a_model_cannot_take_is_refused_in_one_line(
    name, levels, size
):
    depth = dict(depth=1) if 'beit' in name else {}
    backbone = build(name=name, out_indices=levels, model_args=depth)
    with pytest.raises(ValueError, match='pad_size_divisor') as caught:
        backbone(torch.randn(1, 3, *size))
    message = str(caught.value)
    assert name in message and str(size) in message and '\n' not in message


def test_errors_of_another_kind_are_left_alone():
    with pytest.raises(RuntimeError, match='type'):
        build()(torch.zeros(1, 3, 64, 64, dtype=torch.long))


def test_size_and_patch_of_the_classifier_can_be_changed(tmp_path):
    """timm resamples position and patch embeddings while it loads."""
    args = dict(depth=2, embed_dim=48)
    name = 'vit_small_patch14_dinov2'
    path, _ = classifier_file(tmp_path, name, **args)
    backbone = build(
        path,
        name,
        out_indices=(1,),
        model_args=dict(args, img_size=224, patch_size=16),
    )
    assert backbone.model.model.pos_embed.shape == (1, 14 * 14 + 1, 48)
    with torch.no_grad():
        (feature,) = backbone(torch.randn(1, 3, 96, 160))
    assert feature.shape == (1, 48, 6, 10)
    assert feature.isfinite().all()


def test_options_of_the_config_win_over_ours():
    backbone = build(
        name='vit_tiny_patch16_224',
        out_indices=(0,),
        model_args=dict(depth=1, dynamic_img_size=False),
    )
    with pytest.raises(ValueError, match='224'):
        backbone(torch.randn(1, 3, 96, 96))


def test_safetensors_and_pth_fill_the_same_weights(tmp_path):
    path, classifier = classifier_file(tmp_path)
    twin = tmp_path / 'weights.safetensors'
    save_file(classifier.state_dict(), twin)
    a, b = build(path).state_dict(), build(twin).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_real_imagenet_weights_recognise_through_their_file(tmp_path):
    path = export_lite0(tmp_path)
    features = build(path, 'tf_efficientnet_lite0', out_indices=(4,))
    state = timm.models.load_state_dict(str(path))
    assert torch.equal(
        features.model.conv_stem.weight, state['conv_stem.weight']
    )
    assert state['classifier.weight'].shape == (1000, 1280)


def test_url_is_fetched(tmp_path, monkeypatch):
    path, classifier = classifier_file(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    backbone = build(path.as_uri())
    assert torch.equal(
        backbone.model.conv_stem.weight, classifier.conv_stem.weight
    )


def test_last_layer_of_another_size_or_none_is_no_matter(tmp_path):
    path, _ = classifier_file(tmp_path, num_classes=7)
    build(path)
    path, _ = classifier_file(
        tmp_path, change=lambda s: s.pop('classifier.weight')
    )
    build(path)


def test_without_init_cfg_weights_stay_random():
    a, b = build(), build()
    assert not torch.equal(a.model.conv_stem.weight, b.model.conv_stem.weight)


def refused(error, *words, **options):
    with pytest.raises(error) as caught:
        build(**options)
    message = str(caught.value).splitlines()[0]
    for word in (*words, 'must', 'got'):
        assert word in message, message


def test_partly_filled_weights_are_refused_by_name(tmp_path):
    path, _ = classifier_file(
        tmp_path, change=lambda s: s.pop('conv_stem.weight')
    )
    refused(ValueError, 'conv_stem.weight', checkpoint=path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    path, _ = classifier_file(tmp_path, 'test_resnet')
    refused(ValueError, NAME, 'test_resnet.pth', checkpoint=path)


def test_missing_file_is_refused():
    refused(FileNotFoundError, 'no/such.pth', checkpoint='no/such.pth')


def test_truncated_file_is_refused(tmp_path):
    path, _ = classifier_file(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    refused(ValueError, 'truncated', checkpoint=path)


def test_misspelt_model_is_refused_with_the_nearest_names():
    refused(
        ValueError,
        'model_name',
        'tf_efficientnet_lite0',
        name='tf_eficientnet_lite0',
    )


def test_level_out_of_range_is_refused():
    refused(ValueError, 'out_indices', out_indices=(3, 9))


def test_misspelt_model_argument_is_refused():
    refused(ValueError, 'drop_pth_rate', model_args=dict(drop_pth_rate=0.1))


def test_init_cfg_of_another_kind_is_refused():
    with pytest.raises(ValueError, match='init_cfg must be None or'):
        MODELS.build(
            dict(
                type='TimmBackbone',
                model_name=NAME,
                init_cfg=dict(type='Kaiming'),
            )
        )


def test_classes_of_a_timm_model_are_not_taken_for_those_of_a_head():
    backbone = MODELS.build(
        dict(
            type='TimmBackbone',
            model_name='vit_small_patch16_dinov3',
            out_indices=(11,),
        )
    )
    for part in backbone.modules():  # as NumClassCheckHook does
        assert not hasattr(part, 'num_classes')
