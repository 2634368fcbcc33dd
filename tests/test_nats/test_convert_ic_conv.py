"""Checkpoints with the keys of IC-Conv's authors: the converted net computes what their lists of convolutions do."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detnas_mm import zoo
from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilationSpace
from detnas_mm.systems.nats.convert_ic_conv import convert
from detnas_mm.systems.nats.convs import read_dilations, runs_text
from tests.test_nats.nets import build, images, outputs, relative, rng

TOOL = Path(__file__).parents[2] / 'tools/model_converters/convert_ic_conv.py'
SMALL = dict(type='mmdet.ResNet', style='pytorch', depth=50, base_channels=8, norm_eval=False, frozen_stages=-1)
GROUPED = dict(type='mmdet.ResNeXt', style='pytorch', depth=50, groups=4, base_width=4, frozen_stages=-1)


class ListOfConvs(nn.Module):
    """The authors' operation: a convolution a dilation, outputs concatenated."""

    def __init__(self, plain, dilations):
        super().__init__()
        self.conv_list = nn.ModuleList()
        unit, first = plain.out_channels // plain.groups if plain.groups > 1 else 1, 0
        self.inputs = []
        for genotype in dict.fromkeys(dilations):
            count = dilations.count(genotype)
            groups = 1 if plain.groups == 1 else count // unit
            inputs = plain.in_channels if plain.groups == 1 else groups * plain.in_channels // plain.groups
            conv = nn.Conv2d(inputs, count, 3, plain.stride, genotype, genotype, groups, bias=False)
            conv.weight.data = plain.weight.data[first : first + count].clone()
            self.inputs.append(None if plain.groups == 1 else inputs)
            self.conv_list.append(conv)
            first += count

    def forward(self, x):
        parts = [x] * len(self.inputs) if self.inputs[0] is None else x.split(self.inputs, 1)
        return torch.cat([conv(part) for conv, part in zip(self.conv_list, parts, strict=True)], 1)


def sorted_text(cfg, seed=0):
    """A pattern as the authors': each dilation's channels lie together."""
    space = DilationSpace(cfg, preset='ic-conv', genotypes=3)
    arch = space.sample(rng(seed))
    return '|'.join(runs_text(sorted(dilations)) for dilations in space.dilations(arch))


def authors_net(cfg, text):
    """The authors' net with random weights and norms."""
    net = build(cfg)
    convs = DilationSpace(cfg, preset='ic-conv').convs
    for conv, dilations in zip(convs, read_dilations(text, convs), strict=True):
        parent, _, name = conv.name.rpartition('.')
        setattr(net.get_submodule(parent), name, ListOfConvs(net.get_submodule(conv.name), dilations))
    return net


@pytest.fixture(scope='module', params=[SMALL, GROUPED], ids=['resnet', 'resnext'])
def case(request):
    text = sorted_text(request.param)
    net = authors_net(request.param, text)
    return net, net.state_dict(), text


def rebuilt(converted, **settings):
    net = MODELS.build(dict(converted.meta['backbone'], **settings))
    prefix = converted.meta['prefix']
    own = {k[len(prefix) :]: v for k, v in converted.state_dict.items() if k.startswith(prefix)}
    net.load_state_dict({k: v for k, v in own.items() if not k.startswith('head.')})
    net.eval()  # mmdet's returns nothing
    return net


@pytest.mark.parametrize('prefix', ['', 'module.', 'module.backbone.'])
def test_the_converted_net_computes_the_same(case, prefix):
    net, state, text = case
    converted = convert({prefix + key: value for key, value in state.items()}, text)
    assert converted.meta['genotypes'] == text and converted.meta['name'] is None and not converted.dropped
    found = outputs(rebuilt(converted))
    assert relative(found, outputs(net)) < 1e-5
    wrong = convert(state, text.replace('1x1', '4x4', 1))  # the same numbers of channels: one dilation is another
    assert relative(outputs(rebuilt(wrong)), outputs(net)) > 1e-4


def test_the_converted_file_names_its_dilations_to_whatever_loads_it(case, tmp_path):
    """Nets whose channel order matters refuse others, also where only the weights are given."""
    net, state, text = case
    converted = convert(state, text)
    torch.save(dict(meta=converted.meta, state_dict=converted.state_dict), tmp_path / 'a.pth')
    weights = torch.load(tmp_path / 'a.pth', weights_only=True)['state_dict']
    strict = MODELS.build(dict(converted.meta['backbone'], channel_order='sorted'))
    strict.load_state_dict(weights)
    with pytest.raises(DetNASError, match='names no dilations'):
        strict.load_state_dict(dict(weights))


def test_a_classifier_is_kept_or_left_out(case):
    net, state, text = case
    width = state['layer4.0.conv3.weight'].shape[0]
    whole = state | {'fc.weight': torch.zeros(10, width), 'fc.bias': torch.zeros(10)}
    kept = convert(whole, text)
    assert kept.meta['num_classes'] == 10 and kept.meta['prefix'] == 'backbone.' and not kept.dropped
    assert {key.split('.')[0] for key in kept.state_dict} == {'backbone', 'head'}
    assert kept.state_dict['head.fc.weight'].shape == (10, width)
    assert relative(outputs(rebuilt(kept)), outputs(net)) < 1e-5
    left = convert(whole, text, backbone_only=True)
    assert left.dropped == ('fc.weight', 'fc.bias') and left.state_dict.keys() == convert(state, text).state_dict.keys()
    with pytest.raises(DetNASError, match=r'tensors \(1\) have another shape.*\n  fc.weight: \(10, 3\)'):
        convert(whole | {'fc.weight': torch.zeros(10, 3)}, text)


def test_what_does_not_match_is_named(case):
    _, state, text = case
    lost = {key: value for key, value in state.items() if key != 'layer2.1.bn3.running_var'}
    with pytest.raises(DetNASError, match=r'missing:\n  module\.layer2\.1\.bn3\.running_var$'):
        convert({f'module.{key}': value for key, value in lost.items()}, text)
    with pytest.raises(DetNASError, match=r'unknown:\n  layer1\.0\.conv2\.weight$'):
        convert(state | {'layer1.0.conv2.weight': torch.zeros(1)}, text)
    with pytest.raises(
        DetNASError, match=r'tensors \(1\) are not part of the backbone .*--backbone-only.*\n  neck\.weight'
    ):
        convert({f'backbone.{k}': v for k, v in state.items()} | {'neck.weight': torch.zeros(1)}, text)
    gap = {key: value for key, value in state.items() if key != 'layer3.2.conv2.conv_list.0.weight'}
    with pytest.raises(DetNASError, match=r'layer3\.2\.conv2\.conv_list must be numbered from 0 without a gap; .*\[1,'):
        convert(gap, text)
    key = 'layer3.2.conv2.conv_list.0.weight'
    with pytest.raises(
        DetNASError, match=r'^layer3\.2\.conv2\.conv_list has .* in the checkpoint, and .* in the pattern'
    ):
        convert(state | {key: torch.cat([state[key], state[key][:1]])}, text)
    with pytest.raises(DetNASError, match=r'layer3\.2\.conv2\.conv_list\.0\.weight … .* must have inputs of one shape'):
        convert(state | {key: state[key].repeat(1, 2, 1, 1)}, text)
    with pytest.raises(
        DetNASError, match=r'tensors \(1\) have another shape .*\n  layer4\.2\.bn1\.bias: \(3,\) in the'
    ):
        convert(state | {'layer4.2.bn1.bias': torch.zeros(3)}, text)
    with pytest.raises(DetNASError, match=r'No published pattern has these numbers of channels per dilation\. Give'):
        convert(state)
    with pytest.raises(DetNASError, match='blocks in layer1 to layer4; got'):
        convert({k: v for k, v in state.items() if not k.startswith('layer4.2.')}, text)
    with pytest.raises(DetNASError, match=r'must hold one backbone .* found 0: such as weight\.$'):
        convert({'weight': torch.zeros(1)})
    with pytest.raises(DetNASError, match="must hold one backbone .* found 2: '', 'ema.'"):
        convert(state | {f'ema.{key}': value for key, value in state.items()}, text)


def test_counters_of_old_checkpoints_may_be_missing(case):
    _, state, text = case
    old = {key: value for key, value in state.items() if not key.endswith('num_batches_tracked')}
    assert convert(old, text).state_dict['bn1.num_batches_tracked'] == 0


# -- the published ones -----------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def published():
    """A file as the authors' for R50, with weights that are small."""
    net = zoo.get('ic-resnet50-detection')
    return authors_net(dict(net.backbone, frozen_stages=-1), net.arch)


def test_a_published_pattern_is_recognised_and_its_file_loads(published, tmp_path, monkeypatch, capsys):
    state = published.state_dict()
    src, dst = tmp_path / 'src.pth', tmp_path / 'out' / 'dst.pth'
    torch.save(dict(state_dict={f'module.{key}': value for key, value in state.items()}), src)
    monkeypatch.setattr(sys, 'argv', [str(TOOL), str(src), str(dst)])
    monkeypatch.syspath_prepend(TOOL.parent)
    runpy.run_path(str(TOOL), run_name='__main__')
    printed = capsys.readouterr().out
    assert f'{dst}: ic-resnet50-detection, {len(torch.load(dst, weights_only=True)["state_dict"])} tensors' in printed
    cfg = eval(printed.partition('as a backbone:')[2])
    net = MODELS.build(cfg)  # its own check of the channels' order passes
    net.init_weights()
    net.eval()
    x = images(side=64)
    assert relative(outputs(net, x), outputs(published, x)) < 1e-5
    with pytest.raises(DetNASError, match='not known to have its channels in the order'):
        MODELS.build(dict(cfg, genotypes='ic-resnet50-pose'))


def test_the_nearest_published_pattern_is_named(published):
    state, key = published.state_dict(), 'layer2.0.conv2.conv_list.1.weight'
    with pytest.raises(DetNASError, match=r'nearest one, ic-resnet50-\w+, differs in layer2\.0\.conv2\.conv_list'):
        convert(state | {key: state[key][1:]})
    with pytest.raises(DetNASError, match=r'layer1\.0\.conv2\.conv_list has 42, 5, .*, and 39, 1, .* in the pattern'):
        convert(state, 'ic-resnet50-pose')


def test_more_than_tensors_is_refused_unless_trusted(case, tmp_path, monkeypatch):
    _, state, text = case
    torch.save(dict(state_dict=state, args=Path('x')), tmp_path / 'src.pth')
    words = [str(TOOL), str(tmp_path / 'src.pth'), str(tmp_path / 'dst.pth'), '--genotypes', text]
    monkeypatch.syspath_prepend(TOOL.parent)
    monkeypatch.setattr(sys, 'argv', words)
    with pytest.raises(SystemExit, match='--trust-pickle'):
        runpy.run_path(str(TOOL), run_name='__main__')
    monkeypatch.setattr(sys, 'argv', [*words, '--trust-pickle'])
    runpy.run_path(str(TOOL), run_name='__main__')
    assert torch.load(tmp_path / 'dst.pth', weights_only=True)['meta']['genotypes'] == text
