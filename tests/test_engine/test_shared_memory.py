"""Shared memory of a job's loaders is compared with /dev/shm before the job starts."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from detnas_mm.engine import shared_memory
from detnas_mm.engine.inputs import JobInputs
from tests import digits

COCO = digits.CONFIGS.parent / 'detnas' / 'detnas-small_net_retinanet_coco.py'


@pytest.fixture
def said(monkeypatch, tmp_path, capsys):
    """Returns the error for a config with so many free megabytes."""

    def say(cfg, free, splits=('train', 'val')):
        status = SimpleNamespace(f_bavail=free * 256, f_frsize=4096)
        monkeypatch.setattr(shared_memory, 'FOLDER', tmp_path)
        monkeypatch.setattr(shared_memory.os, 'statvfs', lambda path: status)
        inputs = JobInputs.read(cfg, splits)
        shared_memory.warn_if_small(inputs.loaders, inputs.launched)
        return capsys.readouterr().out

    return say


def test_cocos_loaders_need_more_than_a_container_has(said):
    """(4 workers x 2 + 1 in use) x 2 images of 1333x800 to train, x 1 to validate: 82 MB."""
    line = said(Config.fromfile(COCO), 64)
    assert 'has 64 MB free; what loads images for train_dataloader and val_dataloader may have 82 MB under way' in line
    assert line.count('\n') == 1 and 'num_workers=0' in line
    assert said(Config.fromfile(COCO), 83) == ''
    assert said(Config.fromfile(COCO), 64, ['test']) == ''


def test_all_ranks_of_a_machine_count(said, monkeypatch):
    cfg = Config.fromfile(COCO)
    cfg.launcher = 'pytorch'
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '8')
    assert 'may have 659 MB under way there, in 8 processes' in said(cfg, 600)
    monkeypatch.setenv('RANK', '3')
    assert said(cfg, 600) == ''  # rank 0 alone says it


@pytest.mark.parametrize(
    'pipeline, pixels',
    [
        ([dict(scale=(1333, 800))], 1333 * 800),
        ([dict(scale=[(1333, 480), (1333, 960)])], 1333 * 960),
        ([dict(scale=256), dict(crop_size=224), dict(type='Pack')], 224 * 224),
        ([dict(crop_size=(0.5, 0.5))], 0),
        ([dict(scale=(10, 10), to_float32=True)], 400),
        ([dict(type='Pack')], 0),
    ],
)  # fmt: skip
def test_how_large_images_are(pipeline, pixels):
    dataset = dict(type='Concat', datasets=[dict(pipeline=pipeline)])
    loader = dict(batch_size=2, num_workers=3, prefetch_factor=4, dataset=dataset)
    assert shared_memory._under_way(loader) == 3 * pixels * 2 * (3 * 4 + 1)
    assert shared_memory._under_way(dict(loader, num_workers=0)) == shared_memory._under_way(None) == 0


@pytest.mark.parametrize('epochs, loaders', [(0, []), (1, ['train_dataloader', 'val_dataloader'])])
def test_it_is_looked_at_where_mmengine_loads(epochs, loaders):
    assert list(JobInputs.read(Config(dict(train_cfg=dict(max_epochs=epochs)))).loaders) == loaders
