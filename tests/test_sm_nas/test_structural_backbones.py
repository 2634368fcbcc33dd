"""Backbones of one's own in the structural space, found nets among them, and values that do not build."""

import functools

import pytest
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.latency.whole import whole_net
from detnas_mm.models import GroupNorm
from detnas_mm.registry import MODELS
from detnas_mm.systems.sm_nas.factors import plain
from detnas_mm.systems.sm_nas.space import StructuralSpace

from .detectors import HEADS, NECKS, RPNS, SIZE, build, run

DIGITS_SPACE = dict(stem=16, channels=(32, 64, 128, 256), blocks=(1, 1, 2, 1))
DETNAS = dict(type='detnas_mm.DetNASNet', arch='2|2|20|3', space=DIGITS_SPACE)
MAEDET = dict(type='detnas_mm.MAEDetNet', arch='8k3s2|24k5s2x1b8|80k5s2x2b12|160k5s2x4b20|248k5s2x1b44')
NATS = dict(
    type='detnas_mm.DilatedBackbone', plain='mmdet.ResNet', depth=50, base_channels=8, genotypes='2x1',
    stages=['layer2', 'layer3', 'layer4'],
)  # fmt: skip
FOUND = dict(
    detnas=dict(model=dict(backbone=DETNAS), not_taken=['conv_cfg']),
    maedet=dict(model=dict(backbone=MAEDET), not_taken=['conv_cfg']),
    nats=dict(model=dict(backbone=NATS), not_taken=['conv_cfg']),
)


@functools.cache
def found_nets(recipe):
    heads = {name: HEADS[name] for name in ('retinanet', 'faster')}
    necks = {name: NECKS[name] for name in ('fpn-p1-p4', 'fpn-p2-p5')}
    rpns = {name: RPNS[name] for name in ('none', 'rpn')}
    factors = dict(size=SIZE, backbone=FOUND, neck=necks, rpn=rpns, head=heads)
    return StructuralSpace(factors, smallest_map=1, num_classes=10, recipe=recipe)


def test_backbones_are_asked_for_their_outputs():
    table = found_nets(None).table['backbone']
    outputs = {name: value.outputs for name, value in table.items()}
    assert outputs == {
        'detnas': [(0, 32, 4), (1, 64, 8), (2, 128, 16), (3, 256, 32)],
        'maedet': [(0, 24, 4), (1, 80, 8), (2, 160, 16), (3, 248, 32)],
        'nats': [(0, 32, 4), (1, 64, 8), (2, 128, 16), (3, 256, 32)],
    }
    ask = MODELS.get('detnas_mm.backbone_outputs')
    found = ask(dict(type='MobileNetV2', out_indices=(2, 4)))
    assert found == dict(channels=[32, 96], strides=[8, 16], out_indices=[2, 4])
    assert ask(dict(type='mmpretrain.RegNet', arch='regnetx_400mf', out_indices=(1, 2, 3)))['strides'] == [8, 16, 32]


@pytest.mark.parametrize('name', FOUND)
@pytest.mark.parametrize('recipe', [None, 'from_scratch'])
def test_found_nets_of_other_systems_are_backbones(name, recipe):
    space = found_nets(recipe)
    text = f'small/{name}/fpn-p2-p5/rpn/faster'
    model = build(space, text)
    assert not run(model)
    backbone = space.configure({}, space.parse(text))['model']['backbone']
    own = FOUND[name]['model']['backbone']
    assert backbone | plain(own) == backbone and backbone['out_indices'] == [1, 2, 3]
    norms = {type(module) for module in model.backbone.modules() if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm))}
    assert norms == {GroupNorm if recipe else nn.BatchNorm2d}


@pytest.mark.parametrize(
    'backbone, message',
    [
        (dict(type='NoNet'), "backbone 'mine': backbone: 'NoNet' is not a registered model"),
        (dict(type='ResNet', depth=20), "backbone 'mine': backbone: "),
        (dict(type='ResNet', depth=18, strides=(1, 2, 2, 1)), 'strides must increase, and each map needs an index'),
    ],
)
def test_a_backbone_that_cannot_be_asked_is_named(backbone, message):
    with pytest.raises(DetNASError) as error:
        StructuralSpace(dict(backbone=dict(mine=dict(model=dict(backbone=backbone)))))
    assert message in str(error.value)


@pytest.mark.parametrize(
    'factor, value, message',
    [
        ('backbone', dict(base='resnet18', model=dict(backbone=dict(depth=20))), 'does not build'),
        ('backbone', dict(base='resnet18', channels=[1, 2, 3, 4]), 'returns maps of [128, 256, 512] channels'),
        (
            'backbone',
            dict(base='resnet18', strides=[2, 4, 8, 16]),
            'returns maps of [256, 512] channels and strides [16, 32]',
        ),
        ('neck', dict(base='fpn-p2-p5-256', model=dict(neck=dict(type='NoFPN'))), 'does not build'),
        ('neck', dict(base='fpn-p2-p5-256', model=dict(neck=dict(start=1))), 'does not build'),
        ('rpn', dict(base='rpn', model=dict(rpn_head=dict(loss_cls=None))), 'does not build'),
        ('head', dict(base='faster', model=dict(roi_head=dict(bbox_head=dict(type='NoHead')))), 'does not build'),
        ('head', dict(base='faster', model=dict(train_cfg=dict(rcnn=dict(sampler=dict(type='No'))))), 'does not build'),
    ],
)
def test_a_value_that_does_not_build_is_named_before_the_search(factor, value, message):
    """Other values of the factor build."""
    factors = dict(
        size=['800x600'], backbone=dict(resnet18='resnet18'), neck={'fpn-p2-p5-256': 'fpn-p2-p5-256'},
        rpn=dict(rpn='rpn'), head=dict(faster='faster'),
    )  # fmt: skip
    if factor == 'rpn':
        factors['head'] = dict(faster=dict(base='faster', needs=dict(rpn=['rpn', 'mine'])))
    factors[factor] = dict(factors[factor], mine=value)
    with pytest.raises(DetNASError) as error:
        StructuralSpace(factors).check({})
    assert f"{factor} 'mine' {message}" in str(error.value)


def test_a_shared_head_of_other_channels_is_named_before_the_search():
    """Mmdet's has those of a ResNet of 64 base channels, whatever the backbone has."""
    thin = dict(base='resnet18', model=dict(backbone=dict(base_channels=16)), channels=(16, 32, 64, 128))
    factors = dict(size=['800x600'], backbone=dict(resnet18='resnet18', thin=thin), neck=['c4', 'fpn-p2-p5-128'])
    with pytest.raises(
        DetNASError, match="shared_head of backbone 'thin' does not turn 64 channels of its map into 128"
    ):
        StructuralSpace(factors).check({})
    thin['shared_head'] = None
    StructuralSpace(factors).check({})


@pytest.mark.parametrize(
    'head, place',
    [
        (dict(base='faster', model=dict(roi_head=dict(bbox_roi_extractor=None))), 'roi_head.bbox_roi_extractor'),
        (dict(base='cascade3', model=dict(roi_head=dict(bbox_head=5))), 'roi_head.bbox_head'),
        (dict(base='retinanet', model=dict(bbox_head=dict(anchor_generator=5))), 'bbox_head.anchor_generator'),
        (dict(base='retinanet', when=[dict(neck='fpn-*', model=dict(neck=5))]), 'neck'),
    ],
)
def test_a_part_that_is_no_dict_is_named_before_the_search(head, place):
    rpn = ['none'] if head['base'] == 'retinanet' else ['rpn']
    factors = dict(size=['800x600'], backbone=['resnet18'], neck=['fpn-p2-p5-256'], rpn=rpn, head=dict(mine=head))
    with pytest.raises(
        DetNASError, match=f'800x600/resnet18/fpn-p2-p5-256/{rpn[0]}/mine: model.{place} must be a dict'
    ):
        StructuralSpace(factors).check({})


def test_weights_that_are_not_there_are_named_before_the_search():
    """Otherwise all candidates of a backbone would fail, one after the other."""
    lost = dict(base='resnet18', model=dict(backbone=dict(init_cfg=dict(checkpoint='lost.pth'))))
    factors = dict(size=['800x600'], backbone=dict(lost=lost), neck=['fpn-p2-p5-128'], rpn=['rpn'], head=['faster'])
    with pytest.raises(
        DetNASError, match='model.backbone.init_cfg of 800x600/lost/.* names the weights lost.pth, and there is no'
    ):
        StructuralSpace(factors).check({})
    StructuralSpace(factors, recipe='from_scratch').check({})


@pytest.mark.parametrize('settings', [dict(norm_eval=False), dict(frozen_stages=-1), {}])
def test_a_backbone_that_is_frozen_without_weights_is_named_before_the_search(settings):
    """Mmdet's ResNet keeps its norms in evaluation mode unless a config says otherwise."""
    plain_net = dict(type='ResNet', depth=18, frozen_stages=1) | settings
    mine = dict(model=dict(backbone=plain_net), channels=(64, 128, 256, 512), strides=(4, 8, 16, 32))
    factors = dict(size=['800x600'], backbone=dict(mine=mine), neck=['fpn-p1-p5-128'], rpn=['rpn'], head=['faster'])
    kept = ' and '.join(one for one in ('frozen_stages=1', 'norm_eval=True') if one.partition('=')[0] not in settings)
    with pytest.raises(DetNASError, match=f"backbone 'mine' names no pre-trained weights and has {kept}: "):
        StructuralSpace(factors).check({})
    StructuralSpace(factors).check(dict(load_from='whole.pth'))
    plain_net.update(frozen_stages=-1, norm_eval=False)
    StructuralSpace(factors).check({})


def test_grey_images_are_those_of_all_backbones_and_costs():
    """All candidates read the images of one data set."""
    grey = dict(base='resnet18', model=dict(backbone=dict(in_channels=1)))
    factors = dict(size=['800x600'], backbone=dict(grey=grey), neck=['fpn-p2-p5-128'], rpn=['rpn'], head=['faster'])
    space = StructuralSpace(factors)
    assert space.in_channels == 1 and StructuralSpace().in_channels is None
    with pytest.raises(DetNASError, match='data_preprocessor.mean of 800x600/grey/.* has 3 values'):
        space.check({})
    cfg = dict(
        model=dict(data_preprocessor=dict(type='DetDataPreprocessor', mean=[0.0], std=[1.0])),
        test_dataloader=dict(
            dataset=dict(
                pipeline=[
                    dict(type='LoadImageFromFile', color_type='grayscale'),
                    dict(type='Resize', scale=(1, 1), keep_ratio=True),
                ]
            )
        ),
    )
    space.check(cfg)
    assert whole_net(space, cfg, space.members[0]).channels == 1
    space.in_channels = None  # as of a space that leaves it to the config
    assert whole_net(space, cfg, space.members[0]).channels == 1
    factors['backbone'] = dict(resnet50='resnet50', grey=grey)
    with pytest.raises(
        DetNASError, match="backbone 'resnet50' takes images of 3 channels, and backbone 'grey' of 1. All candidates"
    ):
        StructuralSpace(factors)
