"""The command that retrains a found net from the weights that its search started from."""

import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config

from detnas_mm.engine import launch
from detnas_mm.engine.export import Exporter
from detnas_mm.engine.resume import resume
from detnas_mm.options import read_value
from detnas_mm.registry import MODELS
from detnas_mm.search import SearchJob
from detnas_mm.systems.nats import DilationSpace
from detnas_mm.systems.nats.hooks import retrain_line
from detnas_mm.systems.nats.sorted_export import initial_weights
from tests.test_nats.gradient import PLAIN, SPACE, config
from tests.test_nats.nets import build, images, outputs, relative


def test_the_command_of_the_paper(tmp_path):
    (tmp_path / 'r50.pth').touch()
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'r50.pth'), prefix='backbone.')
    line = retrain_line(tmp_path / 'net.py', init)
    assert 'Retrain it as in the paper' in line and f'{tmp_path / "net.py"} --cfg-options' in line
    words = shlex.split(line.partition('--cfg-options ')[2])
    read = {key: read_value(value) for key, _, value in (word.partition('=') for word in words)}
    assert read == {f'model.backbone.init_cfg.{key}': value for key, value in init.items()}
    several = retrain_line(tmp_path / 'net.py', [init])
    assert read_value(shlex.split(several)[-1].partition('=')[2]) == [init]
    old = initial_weights(dict(pretrained='torchvision://resnet50'))
    assert 'torchvision://resnet50' in retrain_line(tmp_path / 'net.py', old)
    for init in (None, dict(type='Kaiming', layer='Conv2d')):
        assert 'Train it from random weights' in retrain_line(tmp_path / 'net.py', init)


@pytest.mark.filterwarnings('ignore:.*pretrained is deprecated')
def test_a_net_exported_with_weights_can_be_retrained_from_others(tmp_path):
    """By the printed command, which sets init_cfg; mmdet refuses it beside its old key ``pretrained``."""
    cfg = config(tmp_path, **{'model.backbone.pretrained': 'torchvision://resnet18'})
    training = Config.fromfile(tmp_path / 'plain.py')
    training.model.backbone.pretrained = 'torchvision://resnet18'
    training.dump(tmp_path / 'plain.py')
    job = SearchJob.from_config(cfg)
    files = Exporter(job).write(job.space.sample(np.random.default_rng(0)), tmp_path / 'net', {}, lambda arch: {})
    exported = Config.fromfile(files['config']).model.backbone
    MODELS.build(dict(exported, init_cfg=dict(type='Pretrained', checkpoint='plain.pth')))
    assert 'pretrained' not in exported and cfg.model.backbone.pretrained


def printed(folder):
    """The command that a search has logged."""
    (log,) = folder.glob('*/*.log')
    (line,) = (line for line in log.read_text().splitlines() if 'Retrain it as in the paper' in line)
    return line.partition('INFO - ')[2]


@pytest.mark.parametrize('sort, init', [(False, False), (True, False), (True, True)])
def test_it_starts_from_the_weights_that_the_search_started_from(tmp_path, monkeypatch, sort, init):
    """Those of a detector, given as ``load_from``, which is loaded after ``init_cfg``; its heads are trained again."""
    monkeypatch.setenv('TQDM_DISABLE', '1')
    net = build(PLAIN)
    detector = {f'backbone.{key}': value for key, value in net.state_dict().items()}
    torch.save(dict(state_dict=detector, meta={}), tmp_path / 'detector.pth')
    loop = dict(max_epochs=1, alpha_from=0)
    torch.save(dict(state_dict=build(PLAIN).state_dict()), tmp_path / 'other.pth')
    other = dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'))
    more = {'model.backbone.init_cfg': other} if init else {}
    more |= {'search.export.sort_channels': sort, 'log_level': 'INFO', 'load_from': str(tmp_path / 'detector.pth')}
    more |= {'model.backbone.space.groups': 4, 'search.space.groups': 4}
    launch.run(config(tmp_path / 'search', workers=0, loop=loop, **more))
    line = printed(tmp_path / 'search')
    cfg = config(tmp_path / 'search', workers=0, loop=loop, **more)
    shutil.rmtree(next((tmp_path / 'search').glob('*/*.log')).parent)
    resume(cfg)  # load_from then names the last epoch
    launch.run(cfg)
    assert printed(tmp_path / 'search') == line
    words = [word.partition('=') for word in shlex.split(line.partition('--cfg-options ')[2])]
    init = {key.removeprefix('model.backbone.init_cfg.'): read_value(value) for key, _, value in words}
    (best,) = json.loads((tmp_path / 'search/best.json').read_text())
    found = MODELS.build(dict(Config.fromfile(tmp_path / 'search' / best['config']).model.backbone, init_cfg=init))
    found.init_weights()
    whole = DilationSpace(PLAIN, **(SPACE | dict(groups=4))).configure(dict(model=dict(backbone=PLAIN)), best['arch'])
    start = MODELS.build(whole['model']['backbone'])
    start.load_state_dict(net.state_dict())
    found.eval()
    start.eval()
    assert relative(outputs(found, images(side=64)), outputs(start, images(side=64))) < 1e-5
