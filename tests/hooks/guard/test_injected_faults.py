"""What silently undoes freezing, injected into real runs one at a time."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import CheckpointLoader
from torch import nn

from mmfrozen.freezing import fingerprint
from mmfrozen.freezing.drift import same_bits
from mmfrozen.hooks.guard.frozen_faults import find_run_faults
from mmfrozen.hooks.runner_access import optimizer_groups
from tests.tiny import ROOT, build

from .. import harms  # noqa: F401  (registers)


@dataclass
class Fault:
    """A way to fail.

    Attributes:
        words: Of the message, the cause among them.
        options: To merge into the config.
        hook: Arguments of `Harm`.
        file: What is done to the classifier's file.
        kept: Checkpoints that were written before the fault.
    """

    words: list
    options: dict = field(default_factory=dict)
    hook: dict | None = None
    file: str | None = None
    kept: list = field(default_factory=list)


def backbone(type, **options):
    return dict(model=dict(backbone=dict(type=type, **options)))


def whole_backbone(**options):
    return dict(model=dict(backbone=dict(_delete_=True, **options)))


LATE = dict(epoch=1)
FIRST = ['epoch_1.pth']
FAULTS = {
    'frozen_stages leaves a stage out': Fault(
        ['model.backbone.frozen_stages', 'got 3', 'Set frozen_stages=4'],
        backbone('ResNet', frozen_stages=3),
    ),
    'frozen_stages counts from another origin': Fault(
        ["type='FrozenBackbone'", 'EfficientNet'],
        whole_backbone(
            type='EfficientNet',
            arch='b0',
            frozen_stages=6,
            out_indices=(2, 3, 4, 5),
        ),
    ),
    'backbone freezes only in train()': Fault(
        ["type='FrozenBackbone'", 'from construction on', 'SwinTransformer'],
        whole_backbone(
            type='SwinTransformer',
            embed_dims=16,
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 1, 1),
            frozen_stages=4,
        ),
    ),
    'lr_mult=0 instead of freezing': Fault(
        ['lr_mult=0', 'freezes nothing'],
        dict(
            backbone('ResNet', frozen_stages=-1),
            optim_wrapper=dict(
                paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0)))
            ),
        ),
    ),
    'weight decay on frozen parameters': Fault(
        ['parameters are in the optimizer', 'optim_wrapper.constructor'],
        dict(optim_wrapper=dict(constructor='DefaultOptimWrapperConstructor')),
    ),
    'no classifier': Fault(
        ['model.backbone.init_cfg', 'got None'],
        backbone('ResNet', init_cfg=None),
    ),
    'classifier of another architecture': Fault(
        ['layer1.2.', 'random'], backbone('ResNet', depth=34)
    ),
    'classifier that fills only a part': Fault(
        ['layer3.0.conv1.weight', 'leaves 1 random'], file='partial'
    ),
    'init_cfg.prefix that matches nothing': Fault(
        ['model.backbone.init_cfg.prefix', "got 'backbone.'", 'conv1.weight'],
        backbone('ResNet', init_cfg=dict(prefix='backbone.')),
    ),
    'init_cfg of the detector in place of the classifier': Fault(
        ['model.init_cfg', 'got', 'detector.pth'], file='init_cfg'
    ),
    'load_from overwrites the classifier': Fault(
        ['load_from', 'differs'], file='load_from'
    ),
    'resume from a fine-tuned checkpoint': Fault(
        ['resume', 'differs'], dict(resume=True), file='load_from'
    ),
    'frozen in a hook': Fault(
        ['model.backbone.frozen_stages', 'got -1'],
        backbone('ResNet', frozen_stages=-1),
        dict(name='freeze_late', stage='before_train'),
    ),
    'frozen in a hook before the guard looks': Fault(
        ['are in the optimizer', 'freeze at construction, not in a hook'],
        backbone('ResNet', frozen_stages=-1),
        dict(name='freeze_late', stage='before_run', priority='HIGHEST'),
    ),
    'train() that thaws': Fault(
        ['require grad', 'layer4.0.conv1.weight', 'a train() override'],
        backbone('ThawingResNet'),
    ),
    'requires_grad on after the optimizer was built': Fault(
        ['require grad', 'unfreezes it after construction'],
        hook=dict(name='thaw', stage='before_train_iter'),
    ),
    'hook that thaws at an epoch': Fault(
        ['require grad', 'changed tensors', 'unfreezing hook', 'iteration 4'],
        hook=dict(name='thaw_and_train', stage='before_train_iter', **LATE),
        kept=FIRST,
    ),
    'frozen parameters added to the optimizer': Fault(
        ['are in the optimizer', 'layer1.0.conv1.weight'],
        hook=dict(
            name='give_to_optimizer', stage='before_train_epoch', **LATE
        ),
        kept=FIRST,
    ),
    'norms converted to SyncBN': Fault(
        ['replaced', 'SyncBatchNorm in place of BatchNorm2d', 'bn1'],
        hook=dict(name='convert_norms', stage='before_train'),
    ),
    'norm_eval that knows another norm class': Fault(
        ['running statistics are in training mode', 'FrozenBackbone'],
        backbone('OneNormResNet', norm_cfg=dict(type='SyncBN')),
    ),
    'norm that ignores eval()': Fault(
        ['running statistics are in training mode', 'layer2.0.bn1'],
        hook=dict(name='wake_norm', stage='before_train_epoch'),
    ),
    'norm woken in the last hook before the step': Fault(
        ['running statistics are in training mode', 'layer2.0.bn1'],
        hook=dict(
            name='wake_norm', stage='before_train_iter', priority='LOWEST'
        ),
    ),
    'stochastic depth left on': Fault(
        ['stochastic depth', 'drop_path'], backbone('PathResNet')
    ),
    'calibration of the statistics': Fault(
        ['Only running statistics moved', 'PreciseBN', 'changed tensors'],
        hook=dict(name='calibrate', stage='after_train_epoch', **LATE),
        kept=FIRST,
    ),
    'statistics averaged over three processes': Fault(
        ['Only running statistics moved'],
        hook=dict(
            name='average_over_three', stage='after_train_epoch', **LATE
        ),
        kept=FIRST,
    ),
    'average of other weights written to the file': Fault(
        ['layer3.0.conv1.weight', 'EMA'],
        hook=dict(
            name='average_in_file', stage='before_save_checkpoint', **LATE
        ),
        kept=FIRST,
    ),
    'head that shares memory with the backbone': Fault(
        ['roi_head.mask_head', 'shares the memory of layer1.0.conv1.weight'],
        hook=dict(name='share_with_head', stage='before_train'),
    ),
    'layer that trains before the backbone': Fault(
        ['features that require grad'],
        hook=dict(name='train_before_backbone', stage='before_train'),
    ),
    'hook that loads other weights': Fault(
        ['1 changed tensors', 'conv1.weight', 'writes to it'],
        hook=dict(
            name='load_other_weights', stage='before_train_epoch', **LATE
        ),
        kept=FIRST,
    ),
    'weight decay by hand': Fault(
        ['changed tensors', 'writes to it'],
        hook=dict(name='decay_by_hand', stage='after_train_iter'),
    ),
    'cast to half precision and back': Fault(
        ['changed tensors', 'writes to it'],
        hook=dict(name='cast_to_half', stage='before_train_epoch', **LATE),
        kept=FIRST,
    ),
    'adapter added after freezing': Fault(
        ['replaced', 'layer4.0.conv2 (Sequential in place of Conv2d)'],
        hook=dict(name='add_adapter', stage='before_train'),
    ),
    'backbone exchanged for a copy': Fault(
        ['replaced'],
        hook=dict(name='copy_backbone', stage='before_train'),
    ),
}


def prepare(cfg, fault, folder, classifier):
    """Inject one fault."""
    checkpoint = cfg.model.backbone.init_cfg.checkpoint
    cfg.merge_from_dict(fault.options)
    if '_delete_' in fault.options.get('model', {}).get('backbone', {}):
        cfg.model.backbone = dict(fault.options['model']['backbone'])
        del cfg.model.backbone['_delete_']
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=checkpoint
        )
    if fault.hook:
        cfg.custom_hooks.append(dict(type='Harm', **fault.hook))
    path = folder / 'detector.pth'
    if fault.file == 'partial':
        state = CheckpointLoader.load_checkpoint(str(classifier), 'cpu')
        del state['layer3.0.conv1.weight']
        torch.save(state, path)
        cfg.model.backbone.init_cfg.checkpoint = str(path)
    elif fault.file:
        state = MODELS.build(cfg.model).state_dict()
        torch.save(dict(state_dict=state, meta=dict(epoch=1, iter=2)), path)
        if fault.file == 'load_from':
            cfg.load_from = str(path)
        else:
            cfg.model.init_cfg = dict(type='Pretrained', checkpoint=str(path))


@pytest.mark.parametrize('name', FAULTS)
def test_fault_is_caught_before_the_next_checkpoint_and_named(
    name, config, tmp_path, resnet18
):
    fault = FAULTS[name]
    prepare(config, fault, tmp_path, resnet18)
    with pytest.raises((ValueError, RuntimeError)) as caught:
        build(config).train()
    message = str(caught.value)
    line = message.strip().splitlines()[-1]  # registries add lines before it
    for word in (*fault.words, 'must', 'got'):
        assert word in line, message
    kept = sorted(p.name for p in Path(config.work_dir).glob('*.pth'))
    assert kept == fault.kept


def test_documentation_lists_what_is_injected():
    page = (ROOT / 'docs/proof.md').read_text()
    assert [n for n in FAULTS if f'| {n} |' not in page] == []
    rows = re.findall(r'^\| .* \| (?:before|at|in) the .* \|$', page, re.M)
    # and freezing after the distributed wrapper, which has its own test
    assert len(rows) == len(FAULTS) + 1 == 34


HARMLESS = {
    'EMA': dict(custom_hooks=[dict(type='EMAHook')]),
    'EMA of MMDetection with buffers': dict(
        custom_hooks=[
            dict(
                type='EMAHook',
                ema_type='ExpMomentumEMA',
                momentum=0.1,
                update_buffers=True,
            )
        ]
    ),
    'gradient checkpointing': dict(
        model=dict(backbone=dict(with_cp=True)),
        activation_checkpointing=['backbone.layer1'],
    ),
    'gradient accumulation': dict(optim_wrapper=dict(accumulative_counts=2)),
}


@pytest.mark.parametrize('name', HARMLESS)
def test_what_does_no_harm_is_let_through(name, config):
    config.merge_from_dict(HARMLESS[name])
    runner = build(config)
    runner.train()
    path = Path(config.work_dir, 'epoch_2.pth')
    saved = CheckpointLoader.load_checkpoint(str(path), 'cpu')['state_dict']
    own = runner.model.backbone.state_dict()
    assert own['conv1.weight'][0, 0, 0, 0].signbit()
    for key, tensor in own.items():
        assert same_bits(saved[f'backbone.{key}'], tensor), key


def test_mixed_precision_is_let_through(config):
    """AmpOptimWrapper refuses CPUs; this is what it does to a backbone."""
    model = MODELS.build(config.model).train()
    before = fingerprint(model.backbone)
    with torch.autocast('cpu', torch.bfloat16):
        features = model.extract_feat(torch.randn(2, 3, 64, 64))
    assert features[0].requires_grad and features[0].dtype is torch.bfloat16
    optimizer = torch.optim.SGD(model.neck.parameters(), lr=0.1)
    runner = SimpleNamespace(
        model=model, optim_wrapper=OptimWrapper(optimizer)
    )
    modules = dict(model.backbone.named_modules())
    assert find_run_faults(runner, modules) == []
    assert fingerprint(model.backbone) == before


@pytest.mark.parametrize('hides_it', [False, True])
def test_freezing_after_the_distributed_wrapper_is_found(
    one_process, hides_it
):
    model = nn.Module()
    model.backbone, model.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
    frozen_first = nn.Module()
    frozen_first.backbone = nn.Conv2d(3, 4, 1).requires_grad_(False)
    frozen_first.head = nn.Conv2d(4, 2, 1)
    for part, expected in ((model, True), (frozen_first, False)):
        wrapped = MMDistributedDataParallel(
            part, find_unused_parameters=hides_it
        )
        part.backbone.requires_grad_(False)
        optimizer = torch.optim.SGD(part.head.parameters(), lr=0.1)
        runner = SimpleNamespace(
            model=wrapped, optim_wrapper=OptimWrapper(optimizer)
        )
        modules = dict(part.backbone.named_modules())
        faults = find_run_faults(runner, modules)
        found = '2 frozen parameters are in the buckets' in ' '.join(faults)
        assert found is expected


def test_groups_of_several_optimizers_are_all_looked_at():
    layers = [nn.Linear(1, 1), nn.Linear(1, 1)]
    wrapper = OptimWrapperDict(
        **{
            str(i): OptimWrapper(torch.optim.SGD(x.parameters(), lr=0.1))
            for i, x in enumerate(layers)
        }
    )
    held = [p for g in optimizer_groups(wrapper) for p in g['params']]
    assert len(held) == 4
