"""Someone else's project: a directory with configs of its own, and mim to launch them."""

import importlib.metadata
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from detnas_mm import compat

ROOT = Path(__file__).resolve().parents[2]

# What the two projects have in common: COCO's layout under data/coco, as mmdet expects it, with tiny images.
SMALL = """
small_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(pipeline=small_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=small_pipeline))
"""

# mmdet's own RetinaNet, whose backbone alone is another.
INTO_MMDET = (
    """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
model = dict(
    data_preprocessor=dict(_delete_=True, type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(_delete_=True, type='detnas_mm.DetNASNet', arch='coco-fpn-300m'),
    neck=dict(in_channels=[64, 160, 320, 640]),
)
train_cfg = dict(max_epochs=1)
"""
    + SMALL
)

# A config of this package, for which only what differs is said.
FROM_DETNAS = (
    """
_base_ = 'detnas_mm::detnas/detnas-small_net_retinanet_coco.py'
model = dict(backbone=dict(arch='2120|2112|33130031|3132', norm_cfg=dict(type='BN'), init_cfg=None))
train_cfg = dict(max_iters=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""
    + SMALL
)


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A directory outside the repository, with COCO in it."""
    from tests.test_configs import synthetic_data

    folder = tmp_path_factory.mktemp('project')
    synthetic_data.make_coco(folder / 'data' / 'coco')
    return folder


def mim_train(project, package, name, text):
    """Starts `mim train`, which must succeed; returns (output, logged rows, folder)."""
    config = project / f'{name}.py'
    config.write_text(text)
    work_dir = project / 'work_dirs' / name
    mim = Path(sys.executable).with_name('mim')
    command = [mim, 'train', package, config.name, '--launcher', 'none', '--gpus', '0', '--work-dir', work_dir]
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    environment |= {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [str(word) for word in command], cwd=project, env=environment, capture_output=True, text=True, timeout=600
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f'{command} failed:\n{output[-5000:]}'
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return output, rows, work_dir


def assert_trained_and_validated(rows):
    assert any(math.isfinite(row.get('loss', math.nan)) for row in rows)
    assert 'loss' not in rows[-1], 'the last row is that of the validation'


@pytest.fixture(scope='module')
def family():
    """The family of distributions; this package must be installed as a user's is."""
    try:
        distribution = importlib.metadata.distribution('detnas_mm')
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('detnas_mm is on the path but not installed: pip install -e .')
    editable = 'editable' in (distribution.read_text('direct_url.json') or '')
    return compat.find_family(), editable


@pytest.mark.slow
def test_backbone_in_mmdets_own_config(project, family):
    """By mmdet's own train script, which knows nothing of this package."""
    package = 'mmdetection' if family[0] == 'onedl' else 'mmdet'  # as each family's mim knows it
    output, rows, work_dir = mim_train(project, package, 'retinanet_detnas', INTO_MMDET)
    assert 'mmdet/.mim/tools/train.py' in output
    assert (work_dir / 'epoch_1.pth').is_file()
    assert_trained_and_validated(rows)


@pytest.mark.slow
def test_config_inherited_from_here(project, family):
    if family == ('onedl', False):
        pytest.skip('onedl-mim 0.5.1 looks for a package from a wheel beside its .dist-info; see docs/versions.md')
    if family == ('openmmlab', True):
        pytest.skip('openmim 0.3.9 does not find editable installs; see docs/versions.md')
    output, rows, work_dir = mim_train(project, 'detnas_mm', 'mine', FROM_DETNAS)
    assert 'tools/train.py' in output
    assert (work_dir / 'iter_2.pth').is_file()
    assert_trained_and_validated(rows)


def test_scope_of_what_is_inherited(tmp_path):
    """Configs inherited from a package are built in its scope; ours is mmdet's, as ``default_scope`` says."""
    config = tmp_path / 'mine.py'
    config.write_text(FROM_DETNAS)
    cfg = Config.fromfile(config)
    own = Config.fromfile(ROOT / 'configs' / 'detnas' / 'detnas-small_net_retinanet_coco.py')
    assert cfg.default_scope == own.default_scope == 'mmdet'
    for key in ('test_dataloader', 'test_evaluator', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'):
        assert cfg[key] == own[key]
    assert cfg.train_cfg == {**own.train_cfg, 'max_iters': 2}
    config.write_text(INTO_MMDET)  # other packages' scopes are left alone
    assert Config.fromfile(config).model._scope_ == 'mmdet'


def test_config_that_is_not_there(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text("_base_ = 'detnas_mm::detnas/no_such_config.py'")
    with pytest.raises(FileNotFoundError, match='mine.py inherits detnas_mm::detnas/no_such_config.py'):
        Config.fromfile(config)
