"""Parts that build, but do not fit together, are named before a search: built and run on the meta device."""

import pytest
from mmdet.models import FCOSHead
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS
from detnas_mm.systems.sm_nas.space import StructuralSpace

from .seeds import read

FPN = 'fpn-p2-p5-128'


def detectors(**factors):
    """A space of ResNet-18, an FPN, and Faster R-CNN, with other values in their places."""
    ours = dict(size=['800x600'], backbone=['resnet18'], neck=[FPN], rpn=['rpn'], head=['faster'])
    return StructuralSpace(ours | factors)


def refusal(space):
    with pytest.raises(DetNASError) as error:
        space.check({})
    return str(error.value)


# -- necks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind, last, found', [('FPN', 128, [16, 32, 64, 128, 256]), ('PAFPN', 64, [16, 32, 64, 128])])
def test_a_neck_of_other_strides_than_the_table_has_is_named(kind, last, found):
    """``start_level`` skips a map, and only those that are read are given to the neck."""
    neck = dict(type=kind, out_channels=128, start_level=1)
    mine = dict(model=dict(neck=neck), strides=(8, last))
    message = refusal(detectors(neck=dict(mine=mine)))
    assert f"neck 'mine' returns maps of {[128] * len(found)} channels and strides {found}, and the table" in message
    assert 'remove start_level and end_level' in message
    del neck['start_level']
    detectors(neck=dict(mine=mine)).check({})


def test_a_neck_that_does_not_run_on_its_maps_is_named():
    neck = dict(type='FPN', out_channels=128, upsample_cfg=dict(scale_factor=4))
    message = refusal(detectors(neck=dict(mine=dict(model=dict(neck=neck), strides=(8, 64)))))
    assert "neck 'mine' does not run on maps of [128, 256, 512] channels" in message


def test_each_backbone_and_neck_is_run_once(monkeypatch):
    """A table has hundreds of combinations, and the check is to be quick."""
    from detnas_mm.systems.sm_nas import checking

    ran, run = [], checking.meta_maps
    monkeypatch.setattr(checking, 'meta_maps', lambda net, given: ran.append(type(net).__name__) or run(net, given))
    detectors(size=['512x512', '800x600', '1080x720'], neck=[FPN, 'fpn-p2-p5-256']).check({})
    assert sorted(ran) == ['FPN', 'FPN', 'ResNet']


# -- what nobody reads ----------------------------------------------------------------------------------------------


def test_a_stage_that_nobody_reads_is_named():
    """It would be built, run and measured, and get no gradient."""
    swin = dict(
        type='SwinTransformer', embed_dims=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), out_indices=(0, 1, 2)
    )
    mine = dict(model=dict(backbone=swin), channels=(24, 48, 96), strides=(4, 8, 16))
    message = refusal(detectors(backbone=dict(mine=mine), neck=['fpn-p1-p4-128']))
    assert "backbone 'mine' has " in message and 'such as stages.' in message and 'end it earlier' in message
    swin.update(depths=(1, 1, 1), num_heads=(1, 2, 4), strides=(4, 2, 2))
    detectors(backbone=dict(mine=mine), neck=['fpn-p1-p4-128']).check({})


def test_a_backbone_of_the_paper_that_returns_fewer_maps_ends_at_the_last():
    three = dict(base='resnet18', channels=(64, 128, 256), strides=(4, 8, 16), out_indices=(0, 1, 2))
    message = refusal(detectors(backbone=dict(mine=three), neck=['fpn-p1-p4-128']))
    assert "backbone 'mine' has " in message and 'such as layer4.0.conv1.weight' in message
    three['model'] = dict(backbone=dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1)))
    detectors(backbone=dict(mine=three), neck=['fpn-p1-p4-128']).check({})


def test_a_backbone_that_does_not_build_where_it_ends_early_is_named():
    """Settings by stage, of which it has four, and three where a neck ends at stride 16."""
    plugins = [
        dict(cfg=dict(type='ContextBlock', ratio=0.25), stages=(False, True, True, True), position='after_conv3')
    ]
    mine = dict(base='resnext50', model=dict(backbone=dict(plugins=plugins)))
    necks = dict(p4=dict(base='fpn-p2-p5-128', strides=(8, 16)), p5=FPN)
    message = refusal(detectors(backbone=dict(resnet50='resnet50', mine=mine), neck=necks))
    assert "backbone 'mine' does not build (800x600/mine/p4/rpn/faster)" in message
    mine['cuts'] = {'16': dict(plugins=[dict(plugins[0], stages=(False, True, True))])}
    detectors(backbone=dict(resnet50='resnet50', mine=mine), neck=necks).check({})


def test_parts_that_nobody_reads_can_be_accepted():
    """ShuffleNetV2 of mmpretrain has a layer after its last stage, for classification."""
    net = dict(type='mmpretrain.ShuffleNetV2', out_indices=(0, 1, 2))
    mine = dict(model=dict(backbone=net), channels=(116, 232, 464), strides=(8, 16, 32))
    neck = dict(p3=dict(base='fpn-p2-p5-128', strides=(8, 64)))
    message = refusal(detectors(backbone=dict(mine=mine), neck=neck))
    assert 'such as layers.3.conv.weight' in message and 'or keep them by unread=True' in message
    detectors(backbone=dict(mine=mine | dict(unread=True)), neck=neck).check({})
    with pytest.raises(DetNASError, match='backbone.mine.unread must be True or False'):
        detectors(backbone=dict(mine=mine | dict(unread='yes')), neck=neck)


class SecondMapAlone(nn.Module):
    """A neck that reads the second of two maps."""

    def __init__(self, in_channels, out_channels, num_outs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels[1], out_channels, 1)

    def forward(self, maps):
        one = self.conv(maps[1])
        return nn.functional.interpolate(one, scale_factor=2), one


def test_a_map_that_a_neck_does_not_read_is_named():
    MODELS.register_module(module=SecondMapAlone, force=True)
    neck = dict(type='detnas_mm.SecondMapAlone', out_channels=128)
    message = refusal(detectors(neck=dict(mine=dict(model=dict(neck=neck), strides=(16, 32)))))
    assert "neck 'mine' does not read the backbone's map of stride 16" in message


# -- heads of one stage ---------------------------------------------------------------------------------------------

ANCHORS = dict(
    type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, center_offset=0.0
)  # strides are filled in
ONE_STAGE = dict(
    FCOSHead='mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    RepPointsHead='mmdet::reppoints/reppoints-moment_r50_fpn_1x_coco.py',
    VFNetHead='mmdet::vfnet/vfnet_r50_fpn_1x_coco.py',
)


def one_stage(kind, neck, less=(), **settings):
    """A detector with the head of one of mmdet's configs, less some of its settings."""
    theirs = read(ONE_STAGE[kind])['model']
    model = {key: theirs[key] for key in ('type', 'bbox_head', 'train_cfg', 'test_cfg') if key in theirs}
    model['bbox_head'] = {key: one for key, one in model['bbox_head'].items() if key not in less} | settings
    return detectors(neck=[neck], rpn=['none'], head=dict(mine=dict(model=model, needs=dict(rpn='none'))))


@pytest.mark.parametrize(
    'kind, settings', [('FCOSHead', {}), ('RepPointsHead', {}), ('VFNetHead', dict(anchor_generator=ANCHORS))]
)
def test_strides_of_points_and_anchors_are_filled_in(kind, settings):
    space = one_stage(kind, 'fpn-p1-p5-128', **settings)
    space.check({})
    head = space.configure({}, space.members[0])['model']['bbox_head']
    assert [4, 8, 16, 32, 64] in (head.get('strides'), head.get('point_strides'))


@pytest.mark.parametrize(
    'kind, less, neck, strides',
    [
        ('FCOSHead', ('strides',), 'fpn-p2-p6-128', [8, 16, 32, 64, 128]),
        ('RepPointsHead', ('point_strides',), 'fpn-p1-p5-128', [4, 8, 16, 32, 64]),
        ('VFNetHead', (), 'fpn-p1-p5-128', [4, 8, 16, 32, 64]),  # its targets are those of a generator by default
    ],
)
def test_a_head_whose_strides_are_not_those_of_its_maps_is_named(kind, less, neck, strides):
    """Its config does not have them, and the default fits other maps."""
    message = refusal(one_stage(kind, neck, less))
    assert "head 'mine' has a prior_generator of strides [" in message
    assert f'and reads maps of strides {strides}' in message and 'strides=()' in message


# -- parts that lack an argument ------------------------------------------------------------------------------------


def hrnet():
    theirs = read('mmdet::hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py')['model']['backbone']
    return dict(model=dict(backbone=theirs), channels=(18, 36, 72, 144), strides=(4, 8, 16, 32))


def test_a_backbone_without_out_indices_goes_with_necks_that_read_all_its_maps():
    """Mmdet's HRNet is one."""
    necks = [FPN, 'fpn-p1-p5-128']
    message = refusal(detectors(backbone=dict(mine=hrnet()), neck=necks))
    assert "backbone 'mine' does not build" in message and "Give backbone 'mine' not_taken=['out_indices']" in message
    mine = hrnet() | dict(not_taken=['out_indices'])
    space = detectors(backbone=dict(mine=mine, resnet18='resnet18'), neck=necks)
    assert {arch.genes[2] for arch in space.members if arch.genes[1] == 'mine'} == {'fpn-p1-p5-128'}
    space.check({})
    with pytest.raises(DetNASError, match='has no out_indices .not_taken., always returns 4, 8, 16, 32'):
        space.parse(f'800x600/mine/{FPN}/rpn/faster')


def test_a_neck_without_num_outs_has_as_many_maps_as_it_reads():
    """Those of RTMDet and YOLOX."""
    mine = dict(model=dict(neck=dict(type='CSPNeXtPAFPN', out_channels=32, num_csp_blocks=1)), strides=(8, 32))
    message = refusal(detectors(neck=dict(mine=mine)))
    assert "neck 'mine' does not build" in message and "Give neck 'mine' not_taken=['num_outs']" in message
    mine['not_taken'] = ['num_outs']
    detectors(neck=dict(mine=mine)).check({})
    mine['strides'] = (8, 64)
    assert 'and the table says [32, 32, 32, 32] and [8, 16, 32, 64]' in refusal(detectors(neck=dict(mine=mine)))


# -- masks ----------------------------------------------------------------------------------------------------------


def test_a_head_that_scores_masks_has_the_classes_and_channels_of_the_others():
    """Mask Scoring R-CNN's third head reads the features that its mask head reads."""
    theirs = read('mmdet::ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco.py')['model']
    model = {key: theirs[key] for key in ('type', 'roi_head', 'train_cfg', 'test_cfg')}
    factors = dict(
        size=['800x600'], backbone=['resnet18'], neck=[FPN], rpn=['rpn'],
        head=dict(mine=dict(model=model, needs=dict(rpn='rpn'))),
    )  # fmt: skip
    space = StructuralSpace(factors, num_classes=2)
    space.check(dict(train_dataloader=dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=('cat', 'dog'))))))
    heads = space.configure({}, space.members[0])['model']['roi_head']
    assert {(heads[key]['num_classes'], heads[key]['in_channels']) for key in heads if key.endswith('head')} == {
        (2, 128)
    }


# -- a loss ---------------------------------------------------------------------------------------------------------


def test_a_head_that_does_not_take_the_number_of_maps_is_named():
    """FCOS has ranges of sizes for five: it builds on four, and fails at its first step."""
    message = refusal(one_stage('FCOSHead', FPN))
    assert "head 'mine' with rpn 'none' does not train on the 4 maps of neck 'fpn-p2-p5-128'" in message
    assert 'len(points) == len(self.regress_ranges)' in message and "needs=dict(neck='…')" in message


class OfKeypoints(FCOSHead):
    """A head that reads annotations which the images of the check do not have."""

    def loss_by_feat(self, *args, **kwargs):
        return dict(loss=args[-3][0].keypoints.sum())


def test_heads_that_read_other_annotations_are_passed_over():
    MODELS.register_module(module=OfKeypoints, force=True)
    one_stage('FCOSHead', FPN, type='detnas_mm.OfKeypoints').check({})


def test_a_head_whose_targets_do_not_fit_is_named():
    """Masks of 14 x 14 as on C4, and targets of 28 x 28."""
    theirs = read('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')['model']
    model = {key: theirs[key] for key in ('type', 'roi_head', 'train_cfg', 'test_cfg')}
    space = detectors(head=dict(mine=dict(model=model, needs=dict(rpn='rpn'))))
    space.check({})
    model['roi_head']['mask_roi_extractor']['roi_layer']['output_size'] = 7
    message = refusal(detectors(head=dict(mine=dict(model=model, needs=dict(rpn='rpn')))))
    assert "head 'mine' with rpn 'rpn' does not train on the 4 maps of" in message
