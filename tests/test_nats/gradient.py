"""A search by gradient on a tiny net and images of noise, in processes that can be killed."""

import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import nn
from torch.utils.data import Dataset

from detnas_mm.engine import launch
from detnas_mm.engine.resume import resume
from detnas_mm.search import read_ledger
from detnas_mm.search.record import VOLATILE
from tests.test_engine.seeded_training import Killed, as_lists, in_new_processes  # noqa: F401  Killed is registered

PLAIN = dict(
    type='mmdet.ResNet',
    depth=18,
    base_channels=4,
    out_indices=(3,),
    frozen_stages=-1,
    norm_eval=False,
    strides=(1,) * 4,
)
SPACE = dict(groups=2, genotypes=[[1, 1], [2, 2], [1, 3]])
ADAM = dict(type='Adam', lr=0.01, betas=(0.5, 0.999), weight_decay=1e-5)


@DATASETS.register_module(force=True)
class Noise(Dataset):
    """Images whose class is visible in their left and upper half; with augmentation, drawn in another way each time."""

    def __init__(self, size=12, first=0, augmented=True):
        self.size, self.first, self.augmented = size, first, augmented

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        return dict(gt_label=index % 2)

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(self.first + index)
        image = torch.randn(3, 32, 32, generator=draw)
        label = index % 2
        image[:, :16] += label
        if self.augmented:
            image += 0.1 * torch.randn(image.shape) + torch.rand(())
        return dict(inputs=image, labels=torch.tensor(label))


@MODELS.register_module(force=True)
class Tiny(BaseModel):
    """A classifier of two classes."""

    def __init__(self, backbone, dropout=0.5, **kwargs):
        super().__init__(**kwargs)
        self.backbone = MODELS.build(backbone)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(32, 2)

    def forward(self, inputs, labels=None, mode='tensor'):
        features = self.backbone(inputs)[-1].mean((2, 3))
        if mode == 'tensor':
            return self.head(features)
        return dict(loss=nn.functional.cross_entropy(self.head(self.dropout(features)), labels))


@HOOKS.register_module(force=True)
class Noted(Hook):
    """Keeps what α, weights and gradients were after every iteration."""

    def before_train(self, runner):
        self.alpha, self.conv1, self.trainable, self.left = [], [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = getattr(runner.model, 'module', runner.model)
        found = model.backbone.layer2[0].conv1
        self.alpha.append(found.alpha.detach().clone())
        self.conv1.append(found.weight.detach().clone())
        self.trainable.append(found.alpha.requires_grad)
        self.left.append(any(one.grad is not None and one.grad.any() for one in model.parameters()))


def loader(ranks=1, batch_size=4, workers=2, **dataset):
    return dict(
        batch_size=batch_size // ranks,
        num_workers=workers,
        dataset=dict(type='Noise', **dataset),
        sampler=dict(type='DefaultSampler', shuffle=dataset.get('augmented', True)),
        collate_fn=dict(type='default_collate'),
    )


def config(folder, kill=None, ranks=1, workers=2, norm_eval=False, hook=None, loop=None, augmented=True, **more):
    """A search of three epochs of three iterations, whose α waits for one."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plain = dict(PLAIN, norm_eval=norm_eval)
    data = dict(ranks=ranks, workers=workers, augmented=augmented)
    cfg = dict(
        work_dir=str(folder),
        model=dict(
            type='Tiny',
            dropout=0.5 if augmented else 0.0,
            backbone=dict(plain, type='detnas_mm.DilatedSupernet', plain=plain['type'], mixture=True, space=SPACE),
        ),
        train_dataloader=loader(**data),
        train_cfg=dict(
            type='detnas_mm.AlternatingTrainLoop', max_epochs=3, alpha_from=1,
            alpha_dataloader=loader(**data, size=8, first=100),
        ) | (loop or {}),
        optim_wrapper=dict(
            type='OptimWrapper',
            constructor='detnas_mm.AlphaOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.1),
            alpha=dict(optimizer=dict(ADAM)),
        ),
        param_scheduler=dict(weights=[dict(type='ExponentialLR', gamma=0.7)], alpha=[]),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2)),
        custom_hooks=[
            dict(type='detnas_mm.EpochSeedHook'),
            dict(type='detnas_mm.NATSSearchHook', **(hook or {})),
            *([dict(type='Killed', what=kill[0], number=kill[1])] if kill else []),
        ],
        search=dict(
            space=dict(SPACE, type='DilationSpace', backbone=plain),
            objectives=[dict(name='alpha_entropy', direction='minimize')],
            export=dict(config=str(folder / 'plain.py')),
        ),
        randomness=dict(seed=0),
        default_scope='mmengine',
        log_level='WARNING',
        experiment_name=f'{folder.name}-{os.getpid()}-{id(folder)}',
    )  # fmt: skip
    shared = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'custom_hooks', 'search', 'work_dir', 'experiment_name')
    simple = {key: value for key, value in cfg.items() if key not in shared} | dict(
        model=dict(type='Tiny', backbone=plain),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)),
    )
    Config(simple).dump(folder / 'plain.py')
    out = Config(cfg)
    out.merge_from_dict(more)
    return out


def train(folder, rank=None, **settings):
    """Searches, resuming what there is, as the tools do; writes final.pth."""
    torch.set_num_threads(1)
    os.environ['TQDM_DISABLE'] = '1'
    cfg = config(folder, ranks=1 if rank is None else 2, **settings)
    if rank is not None:
        os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank))
        dist.init_process_group('gloo', init_method=f'file://{folder}.group', rank=rank, world_size=2)
        cfg.launcher = 'pytorch'
    resume(cfg)
    runners = []
    made = launch.build_runner
    launch.build_runner = lambda *args: runners.append(made(*args)) or runners[-1]
    launch.run(cfg)
    (runner,) = runners
    model = runner.model if rank is None else runner.model.module
    torch.save(
        dict(model=model.state_dict(), optimiser=runner.optim_wrapper.state_dict()),
        Path(folder, f'final{rank or ""}.pth'),
    )


def in_process(*args, **kwargs):
    """Exit codes of ``train`` in new processes."""
    return in_new_processes(train, *args, **kwargs)


def found_rows(folder):
    """Rows without what may differ; none where there is no ledger."""
    path = Path(folder, 'ledger.jsonl')
    records = read_ledger(path)[1] if path.is_file() else []
    return [{key: value for key, value in one.to_json().items() if key not in VOLATILE} for one in records]


def found(folder):
    """Rows without what may differ, what is said of the net, and its weights."""
    rows = found_rows(folder)
    (best,) = json.loads(Path(folder, 'best.json').read_text())
    return rows, best, as_lists(torch.load(Path(folder, best['checkpoint']), weights_only=True)['state_dict'])
