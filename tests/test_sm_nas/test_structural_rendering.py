"""The structural space renders mmdet's own detectors where mmdet has them."""

from mmengine.config import Config

from detnas_mm.cost.count import count_params
from detnas_mm.models import without_memory
from detnas_mm.systems.sm_nas.factors import plain

from .detectors import build, reference


def test_c4_has_as_many_parameters_as_it_should():
    """33.8M with ResNet-50; a map of 14 x 14 straight into FC would be 225M."""
    with without_memory():
        assert round(count_params(build(reference(), '800x600/resnet50/c4/rpn/faster')) / 1e6, 1) == 33.8
        for arch in reference().members:
            if arch.genes[0] == '512x512' and arch.genes[2::2] == ('c4', 'faster') and arch.genes[1] != 'resnet101':
                assert count_params(build(reference(), arch)) < 60e6


def flat(node, place=''):
    """All settings of a config by place; classes of boxes and weights of 1 are defaults."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if any(map(is_dict, listed(node))) else ()
    if not items:
        return {} if place.endswith(('loss_weight', '_scope_')) else {place: node}
    return {key: value for name, part in items for key, value in flat(part, f'{place}.{name}').items()}


def listed(node):
    return node if isinstance(node, list) else []


def is_dict(node):
    return isinstance(node, dict)


def differences(base, text):
    """Settings in which a rendered model differs from mmdet's: (mmdet's, rendered), by place."""
    theirs = flat(plain(Config.fromstring(f'_base_ = {base!r}', '.py').model.to_dict()))
    ours = flat(reference().configure({}, reference().parse(text))['model'])
    found = {key: (theirs.get(key), ours.get(key)) for key in theirs.keys() | ours.keys()}
    found = {key: pair for key, pair in found.items() if pair[0] != pair[1]}
    found.pop('.roi_head.bbox_roi_extractor.finest_scale', None)  # 56, the default
    return found


def test_it_renders_mmdets_faster_rcnn():
    assert not differences('mmdet::_base_/models/faster-rcnn_r50_fpn.py', '800x600/resnet50/fpn-p1-p5-256/rpn/faster')


def test_it_renders_mmdets_retinanet():
    """Except that the stage of stride 4 is not returned, and further levels are computed from P5."""
    found = differences(
        'mmdet::_base_/models/retinanet_r50_fpn.py', '800x600/resnet50/fpn-p2-p6-256/none/retinanet'
    )  # fmt: skip
    assert found == {
        '.backbone.out_indices': ([0, 1, 2, 3], [1, 2, 3]),
        '.neck.in_channels': ([256, 512, 1024, 2048], [512, 1024, 2048]),
        '.neck.start_level': (1, None),
        '.neck.add_extra_convs': ('on_input', 'on_output'),
    }


def test_it_renders_mmdets_cascade():
    """Except for the samplers of the authors' implementation, and the RPN, which is that of Faster R-CNN."""
    found = differences('mmdet::_base_/models/cascade-rcnn_r50_fpn.py', '800x600/resnet50/fpn-p1-p5-256/rpn/cascade3')
    samples = {f'.train_cfg.rcnn.{stage}.sampler.num': (512, 384) for stage in range(3)}
    assert {key: pair for key, pair in found.items() if 'rpn' not in key} == samples
    assert set(found) - set(samples) == {
        '.rpn_head.loss_bbox.type', '.rpn_head.loss_bbox.beta', '.train_cfg.rpn.allowed_border',
        '.train_cfg.rpn_proposal.max_per_img',
    }  # fmt: skip


def test_it_renders_mmdets_c4():
    """Except for torchvision's weights instead of Caffe's."""
    found = differences('mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py', '800x600/resnet50/c4/rpn/faster')
    assert {key.split('.')[-1] for key in found} == {
        'style', 'checkpoint', 'requires_grad', 'mean', 'std', 'bgr_to_rgb'
    }  # fmt: skip


def test_it_renders_mmdets_guided_anchors_and_the_authors_cascade():
    base, text = (
        'mmdet::guided_anchoring/ga-faster-rcnn_r50_fpn_1x_coco.py',
        '800x600/resnet50/fpn-p1-p5-256/ga-rpn/cascade3',
    )
    found = differences(base, text)
    assert {key: pair for key, pair in found.items() if 'rcnn' not in key and 'roi_head' not in key} == {
        '.type': ('FasterRCNN', 'CascadeRCNN'), '.rpn_head.type': ('GARPNHead', 'detnas_mm.GARPNHead')
    }  # fmt: skip
    model = reference().configure({}, reference().parse(text))['model']
    stages = model['train_cfg']['rcnn']
    assert [one['assigner']['pos_iou_thr'] for one in stages] == [0.6, 0.7, 0.75]
    assert [one['sampler']['num'] for one in stages] == [256] * 3
    assert [one['bbox_coder']['target_stds'][0] for one in model['roi_head']['bbox_head']] == [0.075, 0.0375, 0.02475]
    assert model['test_cfg']['rcnn']['score_thr'] == 1e-3 and model['test_cfg']['rpn']['max_per_img'] == 300


def test_strides_follow_the_neck():
    """RPN reads all levels, pooled ones too; RoIs are cut out of the backbone's."""
    model = reference().configure({}, reference().parse('800x600/resnet18/fpn-p2-p6-128/rpn/cascade2'))['model']
    assert model['neck'] | dict(in_channels=[128, 256, 512], num_outs=5, out_channels=128) == model['neck']
    assert model['rpn_head']['anchor_generator']['strides'] == [8, 16, 32, 64, 128]
    assert model['rpn_head']['feat_channels'] == model['rpn_head']['in_channels'] == 128
    extractor = model['roi_head']['bbox_roi_extractor']
    assert (extractor['featmap_strides'], extractor['finest_scale']) == ([8, 16, 32], 14 * 8)
    assert model['backbone']['out_indices'] == [1, 2, 3]
