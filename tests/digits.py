"""Digits, and supernets trained on it for long enough that their paths differ: shared by the slow tests."""

import os
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from detnas_mm.datasets.digits import make_digits
from detnas_mm.engine.config import fit_to_machine

CONFIGS = Path(__file__).parents[1] / 'configs' / 'digits'
COUNTS = dict(
    num_train=300, num_search_val=60, num_test=40, num_cls_train=1000, num_cls_search_val=100, num_cls_test=50
)


def make(folder):
    """Makes a small Digits set and lets the configs find it."""
    os.environ['DETNAS_DIGITS'] = str(folder)
    make_digits(folder, progress=False, **COUNTS)
    return folder


def written(name, work_dir, **changes):
    """A Digits config as written, with changes given as ``a__b=value``."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    cfg.work_dir = str(work_dir)
    cfg.launcher = 'none'
    cfg.log_level = 'ERROR'
    cfg.experiment_name = f'{Path(work_dir).name}-{id(cfg)}'
    return cfg


def config(name, work_dir, **changes):
    """The same, made to fit this machine."""
    return fit_to_machine(written(name, work_dir, **changes))


def runner(name, work_dir, **changes):
    """A Runner of a Digits config."""
    return Runner.from_cfg(config(name, work_dir, **changes))


def scope(name='mmdet'):
    """Sets the default scope, as a Runner does, to build models and data without a Runner."""
    return DefaultScope.overwrite_default_scope(name)


def train_supernet(detector, folder, pretraining=120, steps=260):
    """Pre-trains and fine-tunes a supernet; returns the checkpoint.

    DETNAS_TEST_SUPERNETS names a folder that keeps them, for a machine that has no time to train.
    """
    if store := os.environ.get('DETNAS_TEST_SUPERNETS'):
        folder = Path(store).absolute() / f'of_{detector}'
    checkpoint = folder / detector / f'iter_{steps}.pth'
    if checkpoint.is_file():
        return checkpoint
    runner('detnas-digits_supernet_cls', folder / 'cls', train_cfg__max_iters=pretraining).train()
    backbone = dict(type='Pretrained', checkpoint=str(folder / 'cls' / f'iter_{pretraining}.pth'), prefix='backbone.')
    runner(
        f'detnas-digits_supernet_{detector}',
        folder / detector,
        train_cfg__max_iters=steps,
        model__backbone__init_cfg=backbone,
    ).train()
    return checkpoint
