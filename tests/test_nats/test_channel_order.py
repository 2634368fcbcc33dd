"""Weights in another order of channels than the dilations were chosen for are refused."""

import pickle

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_state_dict, load_checkpoint, save_checkpoint
from torch import nn

from detnas_mm import zoo
from detnas_mm.errors import DetNASError
from detnas_mm.models.subnet import slice_state_dict
from detnas_mm.systems.nats import channel_order, dilated_backbone, dilated_supernet

NAME = 'ic-resnet50-detection'
TEXT = zoo.get(NAME).arch


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint with this meta; gives an init_cfg that loads it."""

    def write(**meta):
        torch.save(dict(meta=meta, state_dict={'conv1.weight': torch.zeros(64, 3, 7, 7)}), tmp_path / 'a.pth')
        return dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))

    return write


def build(genotypes=NAME, depth=50, **settings):
    with torch.device('meta'):
        return dilated_backbone('mmdet.ResNet', genotypes, depth=depth, **settings)


def config(**backbone):
    """The config of a training as mmengine saves it in checkpoints."""
    return Config(dict(model=dict(type='RetinaNet', backbone=dict(type='detnas_mm.DilatedBackbone', **backbone))))


@pytest.mark.filterwarnings('ignore:.*pretrained is deprecated')
@pytest.mark.parametrize('genotypes', [NAME, TEXT])
@pytest.mark.parametrize('path', ['torchvision://resnet50', 'open-mmlab://resnet50', 'https://x.org/a.pth'])
def test_weights_from_elsewhere_are_refused_under_a_published_pattern(genotypes, path):
    refused = f'^{path} is not known to have its channels in the order of {NAME}.*convert_ic_conv'
    for settings in (
        dict(init_cfg=dict(type='Pretrained', checkpoint=path)),
        dict(init_cfg=[dict(type='Pretrained', checkpoint=path)]),
        dict(pretrained=path),
    ):
        with pytest.raises(DetNASError, match=refused) as error:
            build(genotypes, **settings)
        assert '\n' not in str(error.value)
        build(genotypes, channel_order='arbitrary', **settings)
    build(genotypes, init_cfg=dict(type='Kaiming', layer='Conv2d'))


def test_checkpoints_that_name_the_pattern_are_taken(checkpoint):
    for meta in (
        dict(genotypes=TEXT),
        dict(cfg=config(genotypes=NAME, plain='mmdet.ResNet').pretty_text),
        dict(cfg=config(genotypes=TEXT, plain='mmdet.ResNet').pretty_text),
    ):
        build(init_cfg=checkpoint(**meta))
        build(TEXT, init_cfg=checkpoint(**meta))
    for meta in (
        dict(),
        dict(genotypes=zoo.get('ic-resnet50-pose').arch),
        dict(cfg=config(genotypes='ic-resnet50-pose', plain='mmdet.ResNet').pretty_text),
    ):
        with pytest.raises(DetNASError, match=r'a\.pth is not known to have its channels in the order'):
            build(init_cfg=checkpoint(**meta))
    build(init_cfg=dict(type='Pretrained', checkpoint='/nowhere/b.pth'))  # the tools find that it is missing


def test_strides_elsewhere_are_refused(checkpoint):
    with pytest.raises(DetNASError, match=r"has its strides in the 3×3 convolutions.*style is 'caffe'"):
        build(init_cfg=checkpoint(genotypes=TEXT), style='caffe')


def test_a_file_that_could_run_code_is_refused(tmp_path):
    torch.save(dict(meta=dict(genotypes=TEXT, other=Config()), state_dict={}), tmp_path / 'a.pth')
    with pytest.raises(DetNASError, match='not known to have its channels'):
        build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))


def test_sorted_dilations_take_their_own_weights_alone(checkpoint):
    text = TEXT.replace('42:1x1+5:1x2', '5:1x2+42:1x1')
    plain = dict(type='Pretrained', checkpoint='torchvision://resnet50')
    build(text, init_cfg=plain)  # found by a search: the order is that of the weights it started from
    with pytest.raises(DetNASError, match=r'in the order of sorted genotypes.*sort_dilations\.py'):
        build(text, init_cfg=plain, channel_order='sorted')
    with pytest.raises(DetNASError, match='in the order of sorted genotypes'):
        build(text, init_cfg=checkpoint(genotypes=TEXT), channel_order='sorted')
    build(text, init_cfg=checkpoint(genotypes=text), channel_order='sorted')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(genotypes='ic-resnet50'), "named 'ic-resnet50'. Names: ic-resnet50-detection, .*32x4d.$"),
        (dict(genotypes='maedet-s'), "No published network is named 'maedet-s'"),
        (dict(genotypes=None), 'genotypes must be a text .* got None'),
        (dict(depth=101), 'dilations of 16 convolutions.*the backbone has 33: layer1.0.conv2'),
        (dict(channel_order='authors'), "channel_order must be 'sorted', 'arbitrary' or None; got 'authors'"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(DetNASError, match=message):
        build(**settings)


def test_weights_that_were_saved_with_other_dilations_are_warned_of(tmp_path, monkeypatch):
    """By whatever loads them: torch, or mmengine's Runner; whole models too. Keys stay the plain net's."""
    said = []
    monkeypatch.setattr(channel_order, 'print_log', lambda text, **_: said.append(text))

    def model(genotypes, **stages):
        settings = dict(depth=18, base_channels=4, **stages)
        return nn.ModuleDict(dict(backbone=dilated_backbone('mmdet.ResNet', genotypes, **settings)))

    ours, theirs = model('2x2', stages=['layer4']), model('1x1')
    for save in (torch.save, save_checkpoint):
        save(dict(state_dict=get_state_dict(theirs), meta={}), f'{tmp_path}/plain.pth')
        save(dict(state_dict=ours.state_dict(), meta={}), f'{tmp_path}/ours.pth')
        for net, file, warned in (
            (ours, 'ours', False), (theirs, 'plain', False), (ours, 'plain', True), (theirs, 'ours', True),
            (model('1x1', stages=['layer4']), 'plain', False), (build_plain(), 'ours', False),
        ):  # fmt: skip
            said.clear()
            load_checkpoint(net, str(tmp_path / f'{file}.pth'), strict=True)
            assert len(said) == warned
            net.load_state_dict(torch.load(tmp_path / f'{file}.pth', weights_only=True)['state_dict'])
            assert len(said) == 2 * warned
    supernet = nn.ModuleDict(
        dict(backbone=dilated_supernet('mmdet.ResNet', dict(stages=['layer4'], groups=1), depth=18, base_channels=4))
    )
    for genotypes, warned in (('2x2', False), ('1x1', True)):
        said.clear()
        path = supernet['backbone'].space.parse(genotypes)
        ours.load_state_dict(slice_state_dict(supernet.state_dict(), path, supernet['backbone'], 'backbone'))
        assert len(said) == warned
    ours.load_state_dict(theirs.state_dict())
    assert said[-1].startswith(
        'The loaded weights were saved by a backbone with other dilations: all 1x1 in the checkp'
    )
    assert 'layer4.0.conv1=32:2x2|layer4.0.conv2=32:2x2|layer4.1.conv1=32:2x2|layer4.1.conv2… here' in said[-1]
    assert 'layer4.0.conv1=32:2x2' in pickle.loads(pickle.dumps(ours)).state_dict()._metadata['backbone']['dilations']


def build_plain():
    return nn.ModuleDict(dict(backbone=MODELS.build(dict(type='mmdet.ResNet', depth=18, base_channels=4))))


def test_whole_models_of_other_dilations_are_refused_where_the_order_matters(tmp_path):
    """By load_from, a test or ``--resume``: a plain detector has the same keys and shapes."""

    def model(**settings):
        return nn.ModuleDict(dict(backbone=MODELS.build(dict(dict(depth=18, base_channels=4), **settings))))

    dilated = dict(type='detnas_mm.DilatedBackbone', plain='mmdet.ResNet', stages=['layer1'])
    dilated |= dict(genotypes='2:1x1+2:1x2|4:1x1|4:1x1|4:1x1')
    plain, other = model(type='mmdet.ResNet'), model(**dict(dilated, genotypes='4:1x1|4:1x1|4:1x1|4:1x1'))
    net = model(**dilated, channel_order='sorted')
    without = dict(plain.state_dict())  # files of old versions have no metadata
    for weights, named in (
        (plain.state_dict(), 'no dilations'), (without, 'no dilations'), (other.state_dict(), 'the dilations all 1x1'),
    ):  # fmt: skip
        save_checkpoint(dict(state_dict=weights, meta={}), f'{tmp_path}/a.pth')
        with pytest.raises(DetNASError, match=rf'names {named}\) is not known .* order of sorted genotypes.*sort_dil'):
            load_checkpoint(net, f'{tmp_path}/a.pth')
        with pytest.raises(DetNASError, match='is not known'):
            net.load_state_dict(weights)
        load_checkpoint(model(**dilated, channel_order='arbitrary'), f'{tmp_path}/a.pth')
    net.load_state_dict(model(**dilated).state_dict())


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_checked_initial_weights_are_loaded_and_a_plain_detector_afterwards_is_refused(tmp_path, prefix):
    dilated = dict(type='detnas_mm.DilatedBackbone', plain='mmdet.ResNet', depth=18, base_channels=4, stages=['layer1'])
    dilated |= dict(genotypes='2:1x1+2:1x2|4:1x1|4:1x1|4:1x1', channel_order='sorted')
    plain = MODELS.build(dict(type='mmdet.ResNet', depth=18, base_channels=4)).state_dict()
    named = {prefix + key: torch.full_like(value, 0.5) for key, value in plain.items()}
    torch.save(dict(meta=dict(genotypes=dilated['genotypes']), state_dict=named), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=f'{tmp_path}/a.pth') | (dict(prefix=prefix) if prefix else {})
    net = MODELS.build(dict(dilated, init_cfg=init_cfg))
    with pytest.raises(DetNASError, match='names no dilations'):  # a test loads a checkpoint and initialises nothing
        net.load_state_dict(dict(plain))
    net.init_weights()
    assert net.conv1.weight.unique().tolist() == [0.5]
    with pytest.raises(DetNASError, match='names no dilations'):
        net.load_state_dict(dict(plain))
