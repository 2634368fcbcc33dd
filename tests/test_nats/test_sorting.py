"""Sorted channels: equal dilations are contiguous, outputs are equal, and channels read elsewhere are not moved."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilationSpace, searched_convs, sorting
from detnas_mm.systems.nats.convs import read_dilations
from tests.test_nats.nets import build, cfg_of, images, outputs, relative, rng

TOOL = Path(__file__).parents[2] / 'tools/model_converters/sort_dilations.py'
EVERY = ['resnet_pytorch', 'resnet_caffe', 'resnext', 'regnet', 'mmpretrain_resnet', 'dilated_c5']


def drawn(cfg, seed=0):
    """A random pattern of a backbone, with a gene a unit."""
    space = DilationSpace(cfg, preset='ic-conv', genotypes=2)
    return space.describe(space.sample(rng(seed)))


def run(cfg, genotypes, state):
    net = MODELS.build(dict(cfg, type='detnas_mm.DilatedBackbone', plain=cfg['type'], genotypes=genotypes))
    net.load_state_dict(state)
    net.eval()
    return outputs(net)


def scattered(cfg, text):
    """Names of the convolutions in which a dilation comes twice, with others between."""
    table = searched_convs(cfg)
    parts = dict(zip((conv.name for conv in table), text.split('|'), strict=True))
    runs = {name: [run.rpartition(':')[2] for run in part.split('+')] for name, part in parts.items()}
    return {name for name, found in runs.items() if len(set(found)) < len(found)}


@pytest.mark.parametrize('name', EVERY)
def test_all_convolutions_are_sorted_and_the_outputs_are_the_same(name):
    cfg = cfg_of(name)
    text, state = drawn(cfg), build(cfg).state_dict()
    before = {key: value.clone() for key, value in state.items()}
    done = sorting.sort_channels(cfg, text, state)
    assert scattered(cfg, text) == set(done.moved) and not scattered(cfg, done.genotypes) and not done.left
    assert relative(run(cfg, done.genotypes, done.state_dict), run(cfg, text, state)) < 1e-5
    assert all(torch.equal(value, state[key]) for key, value in before.items())  # the given weights stay
    table = searched_convs(cfg)
    for ours, theirs in zip(*(read_dilations(one, table) for one in (text, done.genotypes)), strict=True):
        assert sorted(ours) == sorted(theirs)
    assert sorting.sort_channels(cfg, done.genotypes, done.state_dict).moved == ()


@pytest.mark.parametrize('name', ['resnet_pytorch', 'resnext', 'basic_blocks'])
def test_every_tensor_that_moves_has_to(name):
    """Each permuted tensor put back as it was gives another net."""
    cfg = cfg_of(name)
    text, state = drawn(cfg), build(cfg).state_dict()
    done = sorting.sort_channels(cfg, text, state)
    whole, conv = run(cfg, done.genotypes, done.state_dict), done.moved[0]
    block = conv.rpartition('.')[0]
    moved = [key for key, value in done.state_dict.items() if not torch.equal(value, state[key])]
    own = [key for key in moved if key.startswith(f'{block}.')]
    norm = ('weight', 'bias', 'running_mean', 'running_var')
    expected = {
        'resnet_pytorch': ['conv2.weight', *(f'bn2.{part}' for part in norm), 'conv3.weight'],
        'basic_blocks': ['conv1.weight', *(f'bn1.{part}' for part in norm), 'conv2.weight'],
        'resnext': [
            'conv1.weight', *(f'bn1.{part}' for part in norm), 'conv2.weight', *(f'bn2.{part}' for part in norm),
            'conv3.weight',
        ],
    }[name]  # fmt: skip
    assert own and sorted(own) == sorted(f'{block}.{key}' for key in expected)
    for key in own:
        assert relative(run(cfg, done.genotypes, done.state_dict | {key: state[key]}), whole) > 1e-4, key
    assert relative(run(cfg, text, done.state_dict), whole) > 1e-3


def with_plugin():
    plugin = dict(type='ContextBlock', ratio=0.25)
    return dict(
        cfg_of('resnet_pytorch'),
        plugins=[dict(cfg=plugin, stages=(False, False, False, True), position='after_conv2')],
    )


@pytest.mark.parametrize(
    ('cfg', 'stay', 'reason'),
    [
        (cfg_of('basic_blocks'), lambda name: name.endswith('conv2'), 'go through add, which may mix them'),
        (
            with_plugin(),
            lambda name: name.startswith('layer4'),
            r'read by view, .*context_block\.conv_mask, add',
        ),
        (
            dict(cfg_of('resnet_pytorch'), norm_cfg=dict(type='GN', num_groups=4)),
            lambda name: True,
            r'go through layer1\.\d\.gn2, which may mix them',
        ),
        (cfg_of('res2net'), lambda name: True, 'go through cat, which'),
        (cfg_of('depthwise'), lambda name: name.startswith('layer1'), 'its input is read by layer1.0.depth.*, add'),
    ],
    ids=['basic_blocks', 'plugin', 'GN', 'res2net', 'depthwise'],
)
def test_layers_that_cannot_move_stay_and_say_why(cfg, stay, reason):
    text, state = drawn(cfg, 1), build(cfg).state_dict()
    done = sorting.sort_channels(cfg, text, state)
    names = scattered(cfg, text)
    assert set(done.left) == {name for name in names if stay(name)} == scattered(cfg, done.genotypes)
    assert set(done.moved) == names - set(done.left)
    assert re.search(reason, next(iter(done.left.values())))
    assert relative(run(cfg, done.genotypes, done.state_dict), run(cfg, text, state)) < 1e-5


class Chain(nn.Sequential):
    """A grouped convolution that reads a dense one, both with dilations."""

    def __init__(self, init_cfg=None):
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=4),
            nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 3, padding=1),
        )  # fmt: skip

    def forward(self, x):
        return (super().forward(x),)


def test_convolutions_that_would_move_one_another_stay():
    MODELS.register_module(name='SortingChain', module=Chain, force=True)
    cfg = dict(type='detnas_mm.SortingChain')
    text, state = '4:1x1+2x2+3:1x1|2:1x1+2:2x2+4:1x1|8:1x1', build(cfg).state_dict()
    done = sorting.sort_channels(cfg, text, state)
    assert done.moved == () and done.genotypes == text
    assert done.left == {
        'layer1.0': 'layer1.3, with which it shares channels, is a grouped convolution',
        'layer1.3': 'its input channels are the outputs of layer1.0, which has dilations too',
    }
    last = '8:1x1|8:1x1|4:1x1+2x2+3:1x1'
    done = sorting.sort_channels(cfg, last, state)
    assert done.left == {'layer1.7': 'its output channels are read by no layer and are outputs of the backbone'}


def test_weights_of_another_net_are_refused():
    cfg = cfg_of('resnet_pytorch')
    state = build(cfg).state_dict()
    with pytest.raises(
        DetNASError, match=r'does not fit this ResNet; tensors that differ \(1\), such as:\n  bn1.bias: nothing in'
    ):
        sorting.sort_channels(cfg, drawn(cfg), {k: v for k, v in state.items() if k != 'bn1.bias'})
    with pytest.raises(DetNASError, match=r'bn1.bias: \(3,\) in the checkpoint, \(8,\) needed'):
        sorting.sort_channels(cfg, drawn(cfg), state | {'bn1.bias': torch.zeros(3)})


# -- whole models and files -------------------------------------------------------------------------------------------


@pytest.fixture
def detector():
    """A RetinaNet with a dilated backbone, and its config."""
    plain = cfg_of('resnet_pytorch')
    backbone = dict(plain, type='detnas_mm.DilatedBackbone', plain=plain['type'], genotypes=drawn(plain))
    backbone['init_cfg'] = dict(type='Pretrained', checkpoint='torchvision://resnet50')
    neck = dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=8, num_outs=5)
    head = dict(type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1)
    return dict(
        default_scope='mmdet',
        load_from='before.pth',
        model=dict(type='RetinaNet', backbone=backbone, neck=neck, bbox_head=head, test_cfg=dict()),
    )


def files(cfg, weights, folder, **more):
    Config(cfg).dump(folder / 'found.py')
    torch.save(dict(state_dict=weights, **more), folder / 'found.pth')
    return [folder / 'found.py', folder / 'found.pth', folder / 'out' / 'sorted.pth']


def tool(monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, words)])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_the_tool_sorts_a_whole_detector(detector, tmp_path, monkeypatch, capsys):
    no_init = dict(detector['model'], backbone=dict(detector['model']['backbone'], init_cfg=None))
    with DefaultScope.overwrite_default_scope('mmdet'):
        net = MODELS.build(no_init)
    net.backbone.load_state_dict(build(cfg_of('resnet_pytorch')).state_dict())
    net.eval()
    meta = dict(dataset_meta=dict(classes=('a', 'b', 'c')), epoch=3)
    words = files(detector, net.state_dict(), tmp_path, meta=meta, optimizer=dict(state={}))
    tool(monkeypatch, *words)
    assert 'sorted: all.' in capsys.readouterr().out
    cfg, saved = Config.fromfile(words[2].with_suffix('.py')), torch.load(words[2], weights_only=True)
    assert 'load_from' not in cfg and 'init_cfg' not in cfg.model.backbone
    assert cfg.model.backbone.channel_order == 'sorted'
    assert saved['meta'] == dict(dataset_meta=meta['dataset_meta'], genotypes=cfg.model.backbone.genotypes)
    assert set(saved) == {'meta', 'state_dict'}
    with DefaultScope.overwrite_default_scope('mmdet'):
        again = MODELS.build(cfg.model)
    again.load_state_dict(saved['state_dict'])
    again.eval()
    with torch.no_grad():
        ours, theirs = (one(images(), None, mode='tensor') for one in (again, net))
    for a, b in zip(ours, theirs, strict=True):
        assert relative(a, b) < 1e-5
    with pytest.raises(SystemExit, match=r'sorted\.pth and .*sorted\.py exist; use --overwrite'):
        tool(monkeypatch, *words)
    with pytest.raises(SystemExit, match='There is nothing to sort: equal dilations are contiguous'):
        tool(monkeypatch, words[2].with_suffix('.py'), words[2], tmp_path / 'twice.pth')


def test_a_net_with_sync_bn_is_sorted_in_one_process_without_a_gpu(detector):
    """As an export does it: the configs of this package have SyncBN."""
    detector['model']['backbone']['norm_cfg'] = dict(type='SyncBN', requires_grad=True)
    plain, text = cfg_of('resnet_pytorch'), detector['model']['backbone']['genotypes']
    state = {f'backbone.{key}': value for key, value in build(plain).state_dict().items()}
    cfg, done = sorting.sort_model(detector, state)
    assert set(done.moved) == scattered(plain, text) and not done.left
    assert cfg['model']['backbone']['norm_cfg'] == dict(type='SyncBN', requires_grad=True)
    sorted_state = {key.removeprefix('backbone.'): value for key, value in done.state_dict.items()}
    assert relative(run(plain, done.genotypes, sorted_state), run(plain, text, build(plain).state_dict())) < 1e-5


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_the_tool_takes_plain_pretrained_weights(detector, tmp_path, monkeypatch, prefix):
    plain = build(cfg_of('resnet_pytorch'))
    weights = {prefix + key: value for key, value in plain.state_dict().items()}
    head = 'head.fc.weight' if prefix else 'fc.weight'
    words = files(detector, weights | {head: torch.zeros(10, 256)}, tmp_path)
    tool(monkeypatch, *words)
    backbone = Config.fromfile(words[2].with_suffix('.py')).model.backbone
    assert torch.load(words[2], weights_only=True)['state_dict'].keys() == {*weights, head}
    net = MODELS.build(backbone.to_dict())  # its check of the channels' order passes
    net.init_weights()
    net.eval()
    own = detector['model']['backbone']['genotypes']
    assert relative(outputs(net), run(cfg_of('resnet_pytorch'), own, plain.state_dict())) < 1e-5
    with pytest.raises(DetNASError, match='not known to have its channels in the order of sorted genotypes'):
        MODELS.build(dict(backbone.to_dict(), init_cfg=dict(type='Pretrained', checkpoint=str(words[1]))))


def test_configs_without_dilations_are_refused(tmp_path, monkeypatch):
    plain = cfg_of('resnet_pytorch')
    words = files(dict(model=dict(type='RetinaNet', backbone=plain)), build(plain).state_dict(), tmp_path)
    with pytest.raises(SystemExit, match='must be dict.*DilatedBackbone'):
        tool(monkeypatch, *words)


def test_missing_files_are_one_sentence(detector, tmp_path, monkeypatch):
    words = files(detector, {'conv1.weight': torch.zeros(1)}, tmp_path)
    with pytest.raises(SystemExit, match=r'no\.py'):
        tool(monkeypatch, tmp_path / 'no.py', *words[1:])
    with pytest.raises(SystemExit, match=r'there is no checkpoint .*no\.pth'):
        tool(monkeypatch, words[0], tmp_path / 'no.pth', words[2])
    with pytest.raises(SystemExit, match='does not fit this ResNet'):
        tool(monkeypatch, *words)
    assert not words[2].exists()


def test_a_net_that_would_compute_something_else_is_not_written(detector, monkeypatch):
    """Should a backbone have a way for channels that was not seen, the outputs show it."""
    monkeypatch.setattr(sorting, '_take_rows', lambda *_: None)
    state = build(cfg_of('resnet_pytorch')).state_dict()
    with pytest.raises(DetNASError, match='The outputs of the sorted net differ'):
        sorting.sort_model(detector, state, 'out.pth')
