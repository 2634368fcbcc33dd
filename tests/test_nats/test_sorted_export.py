"""``search.export.sort_channels``: exported nets with sorted channels, equal outputs, and weights to retrain from."""

import json
import re
import shlex

import pytest
import torch
from mmengine.config import Config

from detnas_mm.engine import launch
from detnas_mm.engine.export import Exporter
from detnas_mm.errors import DetNASError
from detnas_mm.models import build_model
from detnas_mm.options import read_value
from detnas_mm.registry import MODELS
from detnas_mm.search import SearchJob
from detnas_mm.systems.nats.sorted_export import initial_weights, load_pretrained
from tests.test_nats.gradient import PLAIN, config, found_rows
from tests.test_nats.nets import build, images, outputs, relative


def scattered(text):
    """Indices of the convolutions in which a dilation occurs in two places."""
    runs = [[run.rpartition(':')[2] for run in part.split('+')] for part in text.split('|')]
    return {number for number, found in enumerate(runs) if len(set(found)) < len(found)}


class Exported:
    """The net that a search in a folder has exported."""

    def __init__(self, folder):
        (self.best,) = json.loads((folder / 'best.json').read_text())
        self.cfg = Config.fromfile(folder / self.best['config'])
        self.backbone = self.cfg.model.backbone.to_dict()
        self.checkpoint = torch.load(folder / self.best['checkpoint'], weights_only=True)
        self.log = next(folder.glob('*/*.log')).read_text()

    def outputs(self):
        model = build_model(self.cfg)
        model.load_state_dict(self.checkpoint['state_dict'], strict=True)
        model.eval()
        return outputs(model.backbone, images(side=64))


@pytest.fixture(scope='module')
def searches(tmp_path_factory):
    """One search that exports its net as it was found, and the same search with the option."""
    folder = tmp_path_factory.mktemp('sorted')
    torch.save(dict(state_dict=build(PLAIN).state_dict()), folder / 'plain.pth')
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TQDM_DISABLE', '1')
        for sort in (False, True):
            more = {'model.backbone.space.groups': 4, 'search.space.groups': 4, 'search.export.sort_channels': sort}
            init = dict(type='Pretrained', checkpoint=str(folder / 'plain.pth'))
            cfg = config(
                folder / str(sort), workers=0, **more, **{'model.backbone.init_cfg': init, 'log_level': 'INFO'}
            )
            launch.run(cfg)
            found.append(Exported(folder / str(sort)))
    assert found_rows(folder / 'False') == found_rows(folder / 'True')
    return folder, *found


def test_the_exported_net_is_sorted_and_its_outputs_are_equal(searches):
    _, plain, found = searches
    text, before = found.backbone['genotypes'], plain.backbone['genotypes']
    assert before == plain.best['arch'] == found.best['arch'] and 'channel_order' not in plain.backbone
    assert relative(found.outputs(), plain.outputs()) < 1e-5
    assert scattered(before) - scattered(text) and found.backbone['channel_order'] == 'sorted'
    assert all(number % 2 for number in scattered(text))  # the second convolutions of BasicBlocks
    weights = plain.checkpoint['state_dict']
    moved = [key for key, value in found.checkpoint['state_dict'].items() if not torch.equal(value, weights[key])]
    assert moved and not [key for key in moved if not re.search(r'layer[234]\.\d\.(conv[12]|bn1)\.', key)]
    found.checkpoint['state_dict'][moved[0]] = weights[moved[0]]
    assert relative(found.outputs(), plain.outputs()) > 1e-4  # the weights had to move with the text
    assert found.checkpoint['meta']['genotypes'] == text and found.checkpoint['meta']['arch'] == before


def test_layers_left_in_place_are_named_in_one_line(searches):
    _, plain, found = searches
    (line,) = (line for line in found.log.splitlines() if 'Channels sorted by dilation in ' in line)
    left = scattered(found.backbone['genotypes'])
    count = int(re.search(r'in (\d+) convolutions', line)[1])
    assert count == len(scattered(plain.backbone['genotypes']) - left) > 0
    assert f'; {len(left)} left in place' in line and len(re.findall(r'layer\d\.\d\.conv2 \(', line)) == len(left)
    assert 'Channels sorted' not in plain.log


def test_it_is_retrained_from_pre_trained_weights_in_the_same_order(searches):
    """By the printed command; the plain checkpoint, whose channels are in another order, is refused."""
    folder, plain, found = searches
    (line,) = (line for line in found.log.splitlines() if 'Retrain it as in the paper' in line)
    words = [word.partition('=') for word in shlex.split(line.partition('--cfg-options ')[2])]
    init = {key.removeprefix('model.backbone.init_cfg.'): read_value(value) for key, _, value in words}
    assert init['checkpoint'].endswith('_pretrained.pth') and init['type'] == 'Pretrained'

    def start(backbone, init):
        net = MODELS.build(dict(backbone, init_cfg=init))
        net.init_weights()
        net.eval()
        return outputs(net, images(side=64))

    unsorted = dict(type='Pretrained', checkpoint=str(folder / 'plain.pth'))
    assert relative(start(found.backbone, init), start(plain.backbone, unsorted)) < 1e-5
    assert str(folder / 'plain.pth') in plain.log and 'plain.pth' not in line
    with pytest.raises(DetNASError, match='not known to have its channels in the order of sorted genotypes'):
        start(found.backbone, unsorted)


@pytest.mark.parametrize('prefix', [None, 'backbone.', 'backbone'])
@pytest.mark.parametrize('key', ['init_cfg', 'pretrained'])
def test_pre_trained_weights_are_read_as_mmengine_reads_them(tmp_path, prefix, key):
    state = {f'{"backbone." if prefix else ""}conv1.weight': torch.ones(2)}
    torch.save(dict(state_dict=state | {'head.fc.weight': torch.zeros(1)}), tmp_path / 'a.pth')
    if key == 'pretrained':
        backbone = dict(pretrained=str(tmp_path / 'a.pth'))
    else:
        pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix=prefix)
        backbone = dict(init_cfg=[dict(type='Kaiming', layer='Conv2d'), pretrained])
    expected = {'conv1.weight'} if prefix and key == 'init_cfg' else {*state, 'head.fc.weight'}
    assert set(load_pretrained(initial_weights(backbone))) == expected
    assert load_pretrained(dict(type='Kaiming', layer='Conv2d')) is load_pretrained(None) is None


def test_pre_trained_weights_of_wrapped_models_are_read(tmp_path):
    """Their prefix may name the wrapper; with more than tensors they are read if they are trusted."""
    state = {'module.backbone.conv1.weight': torch.ones(2)}
    torch.save(dict(state_dict=state, meta=dict(other=Config())), tmp_path / 'a.pth')
    for prefix in ('module.backbone.', 'backbone'):
        init = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix=prefix)
        with pytest.raises(DetNASError, match='trust'):
            load_pretrained(init)
        assert set(load_pretrained(init, trust=True)) == {'conv1.weight'}


def test_a_net_that_cannot_be_sorted_is_refused_before_the_search(tmp_path, monkeypatch):
    """With random weights: whatever makes sorting change the outputs is found before anything is trained."""
    cfg = config(tmp_path, workers=0, **{'search.export.sort_channels': True})
    Exporter(SearchJob.from_config(cfg))
    cfg.search.space.groups = cfg.model.backbone.space.groups = 4
    monkeypatch.setattr('detnas_mm.systems.nats.sorting._take_rows', lambda *_: None)
    with pytest.raises(DetNASError, match='The outputs of the sorted net differ'):
        Exporter(SearchJob.from_config(cfg))


def test_pre_trained_weights_that_cannot_be_sorted_are_refused_before_the_search(tmp_path, monkeypatch):
    """Loading a checkpoint without a layer is no error; sorting it would fail when the search is done."""
    monkeypatch.setenv('TQDM_DISABLE', '1')
    state = build(PLAIN).state_dict()
    del state['layer2.0.conv1.weight']
    torch.save(dict(state_dict=state), tmp_path / 'plain.pth')
    more = {'model.backbone.space.groups': 4, 'search.space.groups': 4, 'search.export.sort_channels': True}
    more['model.backbone.init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'))
    with pytest.raises(DetNASError, match=r'layer2\.0\.conv1'):
        launch.run(config(tmp_path / 'search', workers=0, **more))
    assert not list((tmp_path / 'search').glob('*.pth'))
