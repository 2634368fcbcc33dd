"""Architectures in configs: the search's own, ordinary ones of mmdet and mmpretrain, and none at all."""

import copy

import pytest
from mmengine.config import Config

from detnas_mm.errors import DetNASError
from detnas_mm.spaces import Architecture
from detnas_mm.spaces.backbones import replace_backbone
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import MAEDetSpace
from detnas_mm.testing import ToySpace

BLOCKS = DetNASSpace('small')
PATH = '2120|2112|33130031|3132'
STRUCTURES = MAEDetSpace('authors')
STRUCTURE = '32k3s2|64k3s2x1b64|128k3s2x1b64|256k5s2x2b64|264k3s1x1b64|512k3s2x1b128'
#: A space, an architecture, the type that it becomes, and the channels of its stages.
SYSTEMS = [
    pytest.param(BLOCKS, PATH, 'detnas_mm.DetNASNet', [64, 160, 320, 640], id='detnas'),
    pytest.param(STRUCTURES, STRUCTURE, 'detnas_mm.MAEDetNet', [64, 128, 264, 512], id='mae_det'),
]


def config(name):
    return Config.fromstring(f'_base_ = {name!r}', '.py').to_dict()


def configured(space, arch, cfg):
    """The config with the net in it; sees to it that the given one is left as it was, and shares nothing with it."""
    before = copy.deepcopy(cfg)
    out = space.configure(cfg, space.parse(arch))
    assert cfg == before, 'the given config was changed'
    _spoil(out)
    assert cfg == before, 'the new config shares parts with the given one'
    return space.configure(cfg, space.parse(arch))


def _spoil(value):
    for part in list(value.values()) if isinstance(value, dict) else value:
        if isinstance(part, (dict, list)):
            _spoil(part)
    if isinstance(value, dict):
        value['spoilt'] = True
    else:
        value.append('spoilt')


def without(cfg, *keys):
    return {key: value for key, value in cfg.items() if key not in keys}


# -- ordinary configs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
def test_a_detector_of_mmdet(space, arch, kind, channels):
    cfg = config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    out = configured(space, arch, cfg)
    backbone = out['model']['backbone']
    assert (backbone['type'], backbone['arch']) == (kind, arch)
    own = cfg['model']['backbone']
    kept = ('norm_cfg', 'out_indices', 'frozen_stages', 'norm_eval')
    assert {key: backbone[key] for key in kept} == {key: own[key] for key in kept}
    assert not {'depth', 'num_stages', 'style', 'init_cfg'} & set(backbone), "these are ResNet's, and its checkpoint"
    assert out['model']['neck'] == cfg['model']['neck'] | dict(in_channels=channels)
    assert without(out, 'model') == without(cfg, 'model')
    assert without(out['model'], 'backbone', 'neck') == without(cfg['model'], 'backbone', 'neck')


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
def test_a_detector_that_takes_some_of_the_stages(space, arch, kind, channels):
    cfg = config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg['model']['backbone']['out_indices'] = (1, 3)
    out = configured(space, arch, cfg)
    assert out['model']['neck']['in_channels'] == [channels[1], channels[3]]
    assert tuple(out['model']['backbone']['out_indices']) == (1, 3)


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
def test_a_classifier_of_mmpretrain(space, arch, kind, channels):
    cfg = config('mmpretrain::resnet/resnet50_8xb32_in1k.py')
    out = configured(space, arch, cfg)
    assert out['model']['backbone']['type'] == kind and tuple(out['model']['backbone']['out_indices']) == (3,)
    assert out['model']['head'] == cfg['model']['head'] | dict(in_channels=channels[-1])
    assert out['model']['neck'] == cfg['model']['neck'], 'a neck without in_channels stays as it is'
    assert without(out, 'model') == without(cfg, 'model')


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
@pytest.mark.parametrize(
    'name', ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'mmpretrain::resnet/resnet50_8xb32_in1k.py']
)
def test_what_comes_out_is_built_and_runs(space, arch, kind, channels, name):
    torch = pytest.importorskip('torch')
    from detnas_mm.models import build_model

    cfg = Config(configured(space, arch, config(name)))
    with torch.device('meta'):
        model = build_model(cfg).eval()
        features = model.extract_feat(torch.zeros(1, 3, 64, 64))
    assert space.describe(model.backbone.arch) == arch
    assert features[0].shape[0] == 1 and type(model.backbone).__name__ == kind.partition('.')[2]
    if hasattr(model, 'head'):
        assert model.head.fc.in_features == features[-1].shape[1] == channels[-1]


def test_several_necks_and_heads_without_a_neck():
    """The first that follows the backbone is the one that takes its channels."""
    model = dict(type='A', backbone=dict(type='B'))
    necks = [dict(type='FPN', in_channels=[1, 2, 3, 4]), dict(type='BFP', in_channels=256)]
    out = configured(BLOCKS, PATH, dict(model=model | dict(neck=necks)))
    assert out['model']['neck'] == [dict(type='FPN', in_channels=[64, 160, 320, 640]), necks[1]]
    for head in ('head', 'bbox_head', 'rpn_head'):
        out = configured(BLOCKS, PATH, dict(model=model | {'neck': None, head: dict(type='H', in_channels=7)}))
        assert out['model'][head] == dict(type='H', in_channels=640)
    out = configured(BLOCKS, PATH, dict(model=model | dict(neck=[], rpn_head=dict(type='H'))))
    assert out['model']['rpn_head'] == dict(type='H')


# -- the search's own ---------------------------------------------------------------------------------------------


def test_a_supernet_is_replaced_by_its_net_with_all_its_settings():
    cfg = config('detnas_mm::detnas/detnas-small_search_fpn_coco.py')
    own = dict(channel_split='even_odd', norm_cfg=dict(type='GN', num_groups=8), frozen_stages=2, norm_eval=True)
    own |= dict(with_cp=True, out_indices=[0, 1, 2, 3], init_cfg=dict(type='Kaiming', layer='Conv2d'))
    cfg['model']['backbone'] |= own
    out = configured(BLOCKS, PATH, cfg)
    assert out['model']['backbone'] == own | dict(
        type='detnas_mm.DetNASNet', arch=PATH, space='small', with_last_conv=False, out_indices=(0, 1, 2, 3)
    )
    assert without(out['model'], 'backbone') == without(cfg['model'], 'backbone'), 'channels are those of the supernet'
    assert without(out, 'model') == without(cfg, 'model')


def test_a_supernet_for_classification_keeps_its_last_convolution():
    cfg = config('detnas_mm::detnas/detnas-small_supernet_cls_imagenet.py')
    assert cfg['model']['backbone']['with_last_conv']
    out = configured(BLOCKS, PATH, cfg)
    assert out['model']['backbone']['with_last_conv'] and out['model']['head']['in_channels'] == 1024
    assert without(out['model'], 'backbone') == without(cfg['model'], 'backbone')
    wide = configured(DetNASSpace('large-3.8g'), [0] * 40, cfg)
    assert wide['model']['head']['in_channels'] == 1728


def test_a_structure_is_replaced_by_another():
    cfg = config('detnas_mm::mae_det/maedet_search_gfl_coco.py')
    cfg['model']['backbone'] |= dict(zero_init_residual=False, min_loaded=0.5, with_cp=True)
    out = configured(STRUCTURES, STRUCTURE, cfg)
    assert out['model']['backbone'] == cfg['model']['backbone'] | dict(arch=STRUCTURE)
    assert out['model']['neck'] == cfg['model']['neck'] | dict(in_channels=[64, 128, 264, 512])


def test_a_space_of_ones_own_is_written_out():
    space = DetNASSpace(dict(stem=4, channels=(8, 12), blocks=(1, 2)))
    backbone = configured(space, '3|02', {})['model']['backbone']
    assert backbone['space'] == space.spec() and backbone['out_indices'] == (0, 1)
    assert configured(BLOCKS, PATH, {})['model']['backbone']['space'] == 'small'


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
@pytest.mark.parametrize('cfg', [{}, dict(model=None), dict(model={}, train_dataloader=dict(batch_size=1))])
def test_without_a_model_the_backbone_alone_comes_out(space, arch, kind, channels, cfg):
    out = configured(space, arch, cfg)
    assert list(out) == ['model'] and list(out['model']) == ['backbone']
    assert (out['model']['backbone']['type'], out['model']['backbone']['arch']) == (kind, arch)


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
@pytest.mark.parametrize('indices', [4, (7,), (0, 1, 2, 3, 4), -1, [0, -2]])
def test_stages_that_the_net_does_not_have(space, arch, kind, channels, indices):
    cfg = dict(model=dict(type='A', backbone=dict(type='MobileNetV2', out_indices=indices)))
    with pytest.raises(DetNASError, match='out_indices of the config is .*, but backbones of this space have 4 stages'):
        space.configure(cfg, space.parse(arch))


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
@pytest.mark.parametrize('arch_of_another', ['0|0|00|0', 'maedet-s', Architecture((1,))])
def test_architectures_of_another_space(space, arch, kind, channels, arch_of_another):
    with pytest.raises(DetNASError):
        space.configure({}, arch_of_another)


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
@pytest.mark.parametrize(
    'model', [dict(type='SoftTeacher', detector=dict(backbone=dict(type='ResNet'))), dict(type='A', backbone=None)]
)
def test_models_without_a_backbone(space, arch, kind, channels, model):
    """A backbone beside them would change nothing."""
    with pytest.raises(
        DetNASError, match=f"type '{model['type']}' and has no backbone to replace; its parts are type, "
    ):
        space.configure(dict(model=model), space.parse(arch))


# -- init_cfg -----------------------------------------------------------------------------------------------------

KAIMING = dict(type='Kaiming', layer='Conv2d')
PRETRAINED = dict(type='Pretrained', checkpoint='torchvision://resnet50')


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
@pytest.mark.parametrize(
    ('init_cfg', 'kept'),
    [
        (PRETRAINED, False),
        (dict(PRETRAINED, prefix='backbone.'), False),
        (dict(type='mmengine.PretrainedInit', checkpoint='a.pth'), False),
        ([KAIMING, PRETRAINED], False),
        (KAIMING, True),
        ([KAIMING, dict(type='Constant', val=1, layer='BatchNorm2d')], True),
        (None, True),
    ],
)
def test_weights_of_another_net_are_not_loaded(space, arch, kind, channels, init_cfg, kept):
    cfg = dict(model=dict(type='A', backbone=dict(type='ResNet', init_cfg=init_cfg)))
    backbone = configured(space, arch, cfg)['model']['backbone']
    assert ('init_cfg' in backbone) == kept and backbone.get('init_cfg') == (init_cfg if kept else None)


def test_weights_of_a_whole_model_are_not_loaded():
    model = dict(type='A', backbone=dict(type='ResNet'), init_cfg=PRETRAINED, pretrained='a.pth')
    assert not {'init_cfg', 'pretrained'} & set(configured(BLOCKS, PATH, dict(model=model))['model'])
    assert configured(BLOCKS, PATH, dict(model=model | dict(init_cfg=KAIMING)))['model']['init_cfg'] == KAIMING


@pytest.mark.parametrize(('space', 'arch', 'kind', 'channels'), SYSTEMS)
def test_standardised_convolutions_stay(space, arch, kind, channels):
    conv_cfg = dict(type='detnas_mm.StandardizedConv2d')
    model = dict(type='A', backbone=dict(type='ResNet', conv_cfg=conv_cfg))
    assert configured(space, arch, dict(model=model))['model']['backbone']['conv_cfg'] == conv_cfg
    model['backbone'].pop('conv_cfg')
    assert 'conv_cfg' not in configured(space, arch, dict(model=model))['model']['backbone']


def test_a_roi_head_without_a_neck_is_refused():
    model = dict(type='A', backbone=dict(type='ResNet'), rpn_head=dict(in_channels=1024), roi_head=dict(type='R'))
    with pytest.raises(DetNASError, match='a RoI head but no neck'):
        configured(BLOCKS, PATH, dict(model=model))
    assert configured(BLOCKS, PATH, dict(model=model | dict(neck=dict(type='FPN', in_channels=[1]))))


# -- the helper, and spaces without configs -----------------------------------------------------------------------


def test_a_backbone_decides_what_it_names_itself():
    """Even if the config says otherwise; of the rest only what both have in common is taken over."""
    cfg = dict(model=dict(backbone=dict(type='B', norm_cfg=dict(type='SyncBN'), with_cp=True, depth=50)))
    out = replace_backbone(cfg, dict(type='C', with_cp=False), [8, 16])
    assert out['model']['backbone'] == dict(norm_cfg=dict(type='SyncBN'), with_cp=False, type='C')
    out = replace_backbone(cfg, dict(type='C'), [8, 16], settings=('depth',))
    assert out['model']['backbone'] == dict(depth=50, type='C')


def test_an_output_beyond_the_stages_comes_last():
    model = dict(backbone=dict(type='B', out_indices=[1]), neck=dict(in_channels=[1, 2]))
    out = replace_backbone(dict(model=model), dict(type='C'), [8, 16, 32], last=64)
    assert out['model']['neck'] == dict(in_channels=[16, 64])


def test_a_space_may_have_no_configs():
    space = ToySpace()
    assert space.configure({}, space.smallest()) is None
