"""Every config builds and runs: a training step, or a generation of a search, on images in the right layout."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from detnas_mm.engine import launch
from detnas_mm.engine.config import write_config
from detnas_mm.models import build_model, find_supernet

from . import one_step
from .leaves import LEAVES, NETS, SEARCHES, SUPERNETS

METRICS = {'imagenet': 'accuracy/top1', 'coco': 'coco/bbox_mAP', 'voc': 'pascal_voc/mAP'}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('data', 'quick')]


@pytest.mark.parametrize('name', SUPERNETS + NETS)
def test_trains(name, tmp_path):
    cfg = one_step.cut_down(Config.fromfile(LEAVES[name]), tmp_path)
    runner = one_step.train(cfg)
    assert runner.iter == 1
    assert math.isfinite(runner.message_hub.get_scalar('train/loss').current())
    if name in SUPERNETS:
        assert find_supernet(runner.model).active_path is None
        assert runner.val_loop is None
    elif not name.startswith('detnas-digits'):  # which are not validated while they are trained
        logged = runner.message_hub.log_scalars
        assert 'val/time' in logged
        if 'large' not in name:  # after a step from random weights the deep nets detect nothing at all
            assert f'val/{METRICS[name.split("_")[-1]]}' in logged


@pytest.mark.parametrize('name', SEARCHES)
def test_searches(name, tmp_path):
    cfg = one_step.cut_down(Config.fromfile(LEAVES[name]), tmp_path)
    one_step.cut_down_search(cfg, one_step.save_random_weights(cfg, tmp_path / 'random.pth'))
    training = LEAVES[Path(cfg.search.export.config).stem]
    cfg.search.export.config = str(tmp_path / 'training.py')
    write_config(one_step.cut_down(Config.fromfile(training), tmp_path), tmp_path / 'training.py')
    launch.search(cfg)
    rows = [json.loads(line) for line in (tmp_path / 'ledger.jsonl').read_text().splitlines()][1:]
    assert len(rows) == 2
    objective = cfg.search.objectives[0].name
    assert all(math.isfinite(row['metrics'][objective]) for row in rows)
    assert cfg.search.constraints or len(cfg.search.objectives) > 1
    assert all(row['costs'][c.cost] <= c.high for row in rows for c in cfg.search.constraints)
    best = json.loads((tmp_path / 'best.json').read_text())[0]
    found, searched = (Config.fromfile(tmp_path / best[key]) for key in ('config', 'search_val'))
    assert found.train_cfg.type == 'IterBasedTrainLoop' and found.param_scheduler and found.test_dataloader
    written = torch.load(tmp_path / best['checkpoint'], weights_only=True)['state_dict']
    for exported in (found, searched):
        assert ('SyncBN' in repr(exported.model)) == ('SyncBN' in repr(cfg.model))
        build_model(exported).load_state_dict(written, strict=True)


@pytest.mark.parametrize(
    'before, after',
    [
        ('detnas-small_supernet_cls_imagenet', 'detnas-small_supernet_retinanet_voc'),
        ('detnas-small_coco-fpn-300m_cls_imagenet', 'detnas-small_coco-fpn-300m_fpn_coco'),
    ],
)
def test_takes_up_what_the_step_before_left(before, after, tmp_path, monkeypatch):
    """Detectors load pre-trained backbones from where the configs of ImageNet put them, out of whole classifiers."""
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(LEAVES[before])
    last = tmp_path / 'work_dirs' / before / f'iter_{cfg.train_cfg.max_iters}.pth'
    last.parent.mkdir(parents=True)
    weights = one_step.save_random_weights(one_step.cut_down(cfg, tmp_path / before), last)
    cfg = Config.fromfile(LEAVES[after])
    init_cfg = cfg.model.backbone.init_cfg
    cfg = one_step.cut_down(cfg, tmp_path / after)
    cfg.model.backbone.init_cfg = init_cfg
    cfg.optim_wrapper.optimizer.lr = 0.0
    found = one_step.train(cfg).model.backbone.state_dict()
    expected = torch.load(weights, weights_only=True)['state_dict']
    learnt = [key for key in found if key.endswith(('.weight', '.bias'))]
    assert learnt and all(torch.equal(found[key], expected[f'backbone.{key}']) for key in learnt)
