"""Every kind of backbone, as small as its class allows."""

import copy
import importlib
from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

BACKBONES = importlib.import_module('mmdet.models.backbones')
BN = dict(type='BN', requires_grad=True)
SYNC = dict(type='SyncBN', requires_grad=True)


@dataclass(frozen=True)
class Row:
    """A backbone: its config, last stage, and the sides of its input.

    ``no_loading`` says why a class cannot load a classifier by itself.
    """

    config: dict
    stages: int
    size: tuple = (64, 96)
    no_loading: str = ''
    added: str = ''  # pattern of the tensors that no classifier has

    def build(self, state=None, **options):
        """Build it, in FrozenBackbone unless ``state`` is 'stock'."""
        config = ConfigDict(copy.deepcopy(self.config))
        config.update(options.pop('inner', {}))
        if state != 'stock':
            config = ConfigDict(
                type='FrozenBackbone', backbone=config, **options
            )
        backbone = MODELS.build(config)
        for layer in backbone.modules():
            if type(layer).__name__ == 'TridentConv':
                # MMDetection leaves raw memory in it until init_weights
                torch.nn.init.normal_(layer.weight, std=0.02)
            if hasattr(layer, 'weight_gamma'):  # of 1, it makes infinities
                layer.weight_gamma.fill_(0.05)
        return backbone

    def images(self, batch=2):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, 3, *self.size, generator=generator)


def resnet(kind='ResNet', depth=50, **options):
    return (
        dict(type=kind, depth=depth, base_channels=16, norm_cfg=BN) | options
    )


def timm(name, out_indices=(1, 2, 3, 4), **model_args):
    return dict(
        type='TimmBackbone',
        model_name=name,
        out_indices=out_indices,
        model_args=model_args,
    )


def hrnet():
    def stage(branches, block='BASIC'):
        return dict(
            num_modules=1,
            num_branches=branches,
            block=block,
            num_blocks=(1,) * branches,
            num_channels=tuple(8 * 2**i for i in range(branches)),
        )

    extra = {f'stage{i}': stage(i) for i in (2, 3, 4)}
    return dict(type='HRNet', extra=dict(extra, stage1=stage(1, 'BOTTLENECK')))


ROWS = {
    'ResNet': Row(resnet(depth=18), 4),
    'ResNet with SyncBN': Row(resnet(depth=18, norm_cfg=SYNC), 4),
    'ResNetV1d': Row(resnet('ResNetV1d'), 4),
    'ResNeXt': Row(resnet('ResNeXt', groups=2, base_width=8), 4),
    'ResNeSt': Row(resnet('ResNeSt', stem_channels=16), 4),
    'Res2Net': Row(resnet('Res2Net', base_width=8), 4),
    'RegNet': Row(dict(type='RegNet', arch='regnetx_400mf'), 4),
    'HRNet': Row(hrnet(), 4),
    'DetectoRS_ResNet': Row(
        resnet('DetectoRS_ResNet', conv_cfg=dict(type='ConvAWS')),
        4,
        added=r'.*\.weight_(gamma|beta)',  # worked out from the weights
    ),
    'DetectoRS_ResNeXt': Row(
        resnet('DetectoRS_ResNeXt', groups=2, base_width=8), 4
    ),
    'TridentResNet': Row(
        resnet(
            'TridentResNet',
            num_branch=3,
            test_branch_idx=-1,
            trident_dilations=(1, 2, 3),
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
        ),
        3,
    ),
    'EfficientNet': Row(
        dict(
            type='EfficientNet',
            arch='b0',
            drop_path_rate=0.5,
            out_indices=(3, 4, 5),
            norm_cfg=SYNC,
        ),
        5,
    ),
    'MobileNetV2': Row(
        dict(type='MobileNetV2', widen_factor=0.25, norm_cfg=BN), 8
    ),
    'CSPDarknet': Row(
        dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=0.125), 4
    ),
    'CSPNeXt': Row(
        dict(type='CSPNeXt', deepen_factor=0.33, widen_factor=0.125), 4
    ),
    'Darknet': Row(dict(type='Darknet', norm_eval=False), 5, (32, 64)),
    'SwinTransformer': Row(
        dict(
            type='SwinTransformer',
            embed_dims=24,
            depths=(1, 2, 1, 1),
            num_heads=(1, 2, 2, 4),
            drop_rate=0.1,
            attn_drop_rate=0.1,
            drop_path_rate=0.5,
        ),
        4,
        added=r'norm\d\.(weight|bias)',
    ),
    'PyramidVisionTransformer': Row(
        dict(
            type='PyramidVisionTransformer',
            embed_dims=8,
            num_layers=[1, 2, 1, 1],
            drop_rate=0.1,
            attn_drop_rate=0.1,
            drop_path_rate=0.5,
        ),
        4,
    ),
    'PyramidVisionTransformerV2': Row(
        dict(
            type='PyramidVisionTransformerV2',
            embed_dims=8,
            num_layers=[1, 2, 1, 1],
            drop_path_rate=0.5,
        ),
        4,
    ),
    'SSDVGG': Row(
        dict(
            type='SSDVGG',
            depth=11,
            out_indices=(3, 4),
            out_feature_indices=(12, 24),
        ),
        6,
    ),
    'HourglassNet': Row(
        dict(
            type='HourglassNet',
            downsample_times=2,
            num_stacks=2,
            stage_channels=(16, 16, 24),
            stage_blocks=(1, 1, 1),
            feat_channel=16,
        ),
        2,
        no_loading='MMDetection refuses init_cfg and resets every convolution '
        'in init_weights: no classifier of this shape exists',
    ),
    'timm EfficientNet-Lite': Row(
        timm('tf_efficientnet_lite0', drop_path_rate=0.5), 7
    ),
    'timm EfficientNet-B0': Row(
        timm('efficientnet_b0', drop_path_rate=0.5), 7
    ),
    'timm EfficientNet-B7': Row(timm('tf_efficientnet_b7'), 7, (32, 64)),
    'timm ResNet-RS': Row(
        timm('resnetrs50', layers=(1, 1, 2, 1), drop_path_rate=0.2), 4
    ),
    'timm ResNet': Row(timm('resnet18', drop_path_rate=0.2), 4),
    'timm RegNet': Row(timm('regnety_002'), 4),
    'timm MobileNetV3': Row(timm('mobilenetv3_small_050'), 6),
    'timm MobileNetV4': Row(timm('mobilenetv4_conv_small'), 5),
    'timm ConvNeXt': Row(
        timm('convnext_atto', (0, 1, 2, 3), drop_path_rate=0.5), 4
    ),
    'timm Swin': Row(
        timm(
            'swin_tiny_patch4_window7_224',
            (0, 1, 2, 3),
            embed_dim=24,
            depths=(1, 2, 1, 1),
            drop_path_rate=0.5,
        ),
        4,
    ),
    'timm SwinV2': Row(
        timm(
            'swinv2_tiny_window8_256',
            (0, 1, 2, 3),
            embed_dim=24,
            depths=(1, 2, 1, 1),
            drop_path_rate=0.5,
        ),
        4,
    ),
    'timm ViT': Row(
        timm(
            'vit_tiny_patch16_224',
            (2,),
            depth=3,
            drop_path_rate=0.5,
            attn_drop_rate=0.1,
            pos_drop_rate=0.1,
        ),
        3,
    ),
    'timm CLIP ViT': Row(
        timm(
            'vit_base_patch16_clip_224',
            (1,),
            depth=2,
            embed_dim=48,
            num_heads=2,
        ),
        2,
    ),
    'timm DINOv2': Row(
        timm('vit_small_patch14_reg4_dinov2', (1,), depth=2, embed_dim=48), 2
    ),
    'timm DINOv3': Row(
        timm('vit_small_patch16_dinov3', (1,), depth=2, embed_dim=48), 2
    ),
    'timm PVTv2': Row(timm('pvt_v2_b0', (0, 1, 2, 3)), 4),
    'timm DenseNet': Row(timm('densenet121', growth_rate=8), 5),
    'timm HRNet': Row(timm('hrnet_w18_small'), 5, (64, 64)),
}
HOST_CLASSES = {
    name: cls
    for name, cls in MODELS.module_dict.items()
    if getattr(cls, '__module__', '').startswith(BACKBONES.__name__ + '.')
}
