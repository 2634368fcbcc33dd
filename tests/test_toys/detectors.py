"""A toy system whose candidates are whole detectors: one of two heads, and the size of its images."""

import copy

import torch
from mmengine.config import Config

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators import Evaluator
from detnas_mm.models import build_model
from detnas_mm.registry import EVALUATORS, SPACES
from detnas_mm.search import Evaluation
from detnas_mm.spaces import Architecture, ChoiceSpace
from tests import digits

HEADS, SIZES = ('RetinaHead', 'GFLHead'), (64, 96)


@SPACES.register_module(force=True)
class DetectorSpace(ChoiceSpace):
    """The head of a one-stage detector, and the size of its images."""

    choices = (len(HEADS), len(SIZES))

    def spec(self):
        return dict(type='DetectorSpace', heads=list(HEADS), sizes=list(SIZES))

    def parse(self, value):
        genes = list(getattr(value, 'genes', value))
        if isinstance(value, str):
            head, _, size = value.partition('@')
            genes = [HEADS.index(head), SIZES.index(int(size))]
        if len(genes) != 2 or not all(0 <= gene < 2 for gene in genes):
            raise DetNASError(f'{value!r} is no detector, such as {HEADS[0]}@{SIZES[0]}.')
        return Architecture(tuple(int(gene) for gene in genes))

    def describe(self, arch):
        return f'{HEADS[arch.genes[0]]}@{SIZES[arch.genes[1]]}'

    def configure(self, cfg, arch):
        """The model, and the pipelines of all data."""
        out = copy.deepcopy(dict(cfg))
        head, size = HEADS[arch.genes[0]], SIZES[arch.genes[1]]
        if head == 'GFLHead':
            own = out['model']['bbox_head']
            anchors = dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=4, scales_per_octave=1)
            out['model'] |= dict(
                type='GFL',
                bbox_head=dict(
                    type='GFLHead',
                    num_classes=own['num_classes'],
                    in_channels=own['in_channels'],
                    feat_channels=own['feat_channels'],
                    stacked_convs=1,
                    norm_cfg=dict(type='BN'),
                    anchor_generator=anchors | dict(strides=own['anchor_generator']['strides']),
                    loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
                    loss_bbox=dict(type='GIoULoss'),
                ),
                train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1),
            )
        for part in ('train', 'val', 'test'):
            loader = out.get(f'{part}_dataloader') or dict(dataset=dict(pipeline=[]))
            for step in loader['dataset']['pipeline']:
                if step['type'] == 'Resize':
                    step['scale'] = (size, size)
        return out


@EVALUATORS.register_module(force=True)
class UntrainedLoss(Evaluator):
    """Scores the configured detector by what the job says of it; a short training would stand here."""

    def setup(self, job, model=None):
        self.job = job
        self.searched = job.cfg.to_dict()

    def spec(self):
        return dict(type='UntrainedLoss')

    def _build(self, arch):
        torch.manual_seed(self.job.seed)
        return build_model(Config(self.job.space.configure(self.searched, arch)))

    def evaluate(self, archs):
        for arch in archs:
            params = sum(parameter.numel() for parameter in self._build(arch).parameters())
            yield Evaluation(dict(score=SIZES[arch.genes[1]] - params / 1e6))

    def weights(self, arch):
        return self._build(arch).state_dict()


def search_config(folder, **section):
    """A search on Digits, with changes of its ``search`` section; $DETNAS_DIGITS must be there."""
    cfg = digits.written('detnas-digits_net_retinanet', folder)
    for part in ('train', 'test'):
        pipeline = cfg[f'{part}_dataloader'].dataset.pipeline
        if not any(step.type == 'Resize' for step in pipeline):
            pipeline.insert(1, dict(type='Resize', scale=(96, 96), keep_ratio=False))
    cfg.search = (
        dict(
            space=dict(type='DetectorSpace'),
            strategy=dict(type='RandomStrategy', population=4),
            evaluator=dict(type='UntrainedLoss'),
            objectives=[dict(name='score')],
            budget=dict(generations=1),
            export=dict(top_k=4),
        )
        | section
    )
    return cfg
