"""A detector of three layers for runs of a tenth of a second."""

import torch
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.data import Dataset

from mmfrozen.freezing import fingerprint, freeze
from tests.tiny import NUMBERS

ADAM = dict(type='AdamW', lr=0.01)
NAN, INFINITY = float('nan'), float('inf')


class Images(Dataset):
    """Images of noise, numbered from 0; a pixel of some may be NaN."""

    def __init__(self, num, harm):
        self.num, self.harm = num, harm

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        info = dict(img_id=index, img_path=f'{index}.jpg')
        boxes = InstanceData(bboxes=torch.ones(1, 4))
        sample = DetDataSample(metainfo=info, gt_instances=boxes)
        image = torch.randn(3, 8, 8, generator=generator)
        if self.harm.get(index) == 'pixels':
            image[0, 0, 0] = NAN
        return dict(inputs=image, data_samples=sample)


class Toy(BaseModel):
    """A frozen backbone and a neck with statistics.

    Args:
        harm: By image id, which number becomes infinite or NaN.
    """

    def __init__(self, harm=None):
        super().__init__(ImgDataPreprocessor())
        torch.manual_seed(0)
        self.harm = harm or {}
        self.backbone = freeze(nn.Conv2d(3, 4, 3, padding=1))
        self.backbone.register_forward_hook(self._spoil)
        self.neck = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 1, 1)
        self.now = []

    def _spoil(self, _, __, features):
        for i, harm in enumerate(self.now):
            if harm == 'features':
                features[i, 0, 0, 0] = INFINITY
        if 'half' in self.now:
            return features.half() * 65504  # its largest number
        return features

    def forward(self, inputs, data_samples=None, mode='loss'):
        ids = [sample.img_id for sample in data_samples]
        self.now = [self.harm.get(i) for i in ids]
        features = self.backbone(inputs).float()
        if 'raise' in self.harm.values() and not features.isfinite().all():
            raise IndexError('as assigning boxes does')
        outputs = self.head(self.neck(features))
        if 'raise' in self.harm.values() and not outputs.isfinite().all():
            raise IndexError('as assigning boxes does')
        losses = dict(loss_cls=outputs.square().mean())
        losses['loss_bbox'] = outputs.abs().mean()
        if 'loss' in self.now:  # without a gradient
            losses['loss_bbox'] = losses['loss_bbox'] + NAN
        if 'gradient' in self.now:
            zero = self.neck[0].weight.sum() * 0
            losses['loss_root'] = zero.abs().sqrt() * 0  # 0 * infinity
        if 'weights' in self.now:
            losses['loss_cls'] = losses['loss_cls'] * 1e30
        return losses


class Watch(Hook):
    """Notes the state after every step."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.states = [state_of(runner)]

    def after_train_iter(self, runner, *args, **kwargs):
        self.states.append(state_of(runner))


def state_of(runner):
    """Bits of weights, statistics and moments."""
    model = getattr(runner.model, 'module', runner.model)
    optimizer = runner.optim_wrapper.optimizer.state
    moments = {
        f'{i}.{name}': value.tolist()
        for i, state in enumerate(optimizer.values())
        for name, value in state.items()
    }
    return fingerprint(model) | moments


def run(
    folder,
    harm,
    *,
    steps=4,
    optimizer=ADAM,
    wrapper=None,
    checkpoint=1,
    sampler=None,
    **options,
):
    """Train the toy with the hook.

    Returns:
        The runner, not yet started, and its watch. Step i sees images 2 i
        and 2 i + 1; in two processes, rank r sees 2 i + r.
    """
    watch, ranks = Watch(), 2 if torch.distributed.is_initialized() else 1
    runner = Runner(
        Toy(harm),
        str(folder),
        experiment_name=f'toy-{next(NUMBERS)}',
        train_dataloader=dict(
            dataset=Images(int(2 * steps), harm or {}),
            sampler=dict(
                type='DefaultSampler', shuffle=False, **(sampler or {})
            ),
            batch_size=2 // ranks,
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=int(steps)),
        optim_wrapper=dict(optimizer=optimizer, **(wrapper or {})),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', interval=checkpoint, by_epoch=False
            ),
            non_finite=dict(type='mmfrozen.NonFiniteHook', **options),
        ),
        log_level='WARNING',
        launcher='pytorch' if ranks == 2 else 'none',
    )
    runner.register_hook(watch)
    return runner, watch
