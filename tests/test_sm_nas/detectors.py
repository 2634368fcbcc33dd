"""Detectors of the structural space that are small enough to be run: shared by its tests."""

import copy
import functools

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from detnas_mm.models import build_model
from detnas_mm.systems.sm_nas.space import StructuralSpace

SIDE = 64
CHANNELS = dict(resnet18=[8, 16, 32, 64], resnet34=[8, 16, 32, 64], mobilenetv2=[8, 8, 24, 1280])
BOTTLENECK = [32, 64, 128, 256]
#: The reference's backbones with few channels, none frozen; all else is what is rendered for COCO.
THIN = {
    'resnet': dict(base_channels=8),
    'resnext': dict(base_channels=8, groups=2, base_width=4),
    'mobilenetv': dict(widen_factor=0.25),
}
NAMES = ('resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnext50', 'resnext101', 'mobilenetv2')
SLIM = {
    name: dict(
        base=name,
        channels=CHANNELS.get(name, BOTTLENECK),
        model=dict(backbone=dict(THIN[name.rstrip('0123456789')], frozen_stages=-1)),
        shared_head=None,  # of mmdet's only size: tried apart
    )
    for name in NAMES
}
SIZE = {'small': dict(scale=(SIDE, SIDE))}
THIN_NECK = dict(neck=dict(out_channels=16))
NECKS = {
    'c4': 'c4',
    'fpn-p1-p4': dict(base='fpn-p1-p4-128', model=THIN_NECK),
    'fpn-p2-p5': dict(base='fpn-p2-p5-128', model=THIN_NECK),
    'fpn-p2-p3': dict(base='fpn-p2-p5-128', model=THIN_NECK, strides=(8, 16)),  # stage 4 is not built
}
FEW = dict(nms_pre=60, max_per_img=30)
PROPOSALS = dict(train_cfg=dict(rpn_proposal=FEW), test_cfg=dict(rpn=FEW))
RPNS = dict(none='none', **{name: dict(base=name, model=PROPOSALS) for name in ('rpn', 'ga-rpn')})
THIN_BOXES = dict(roi_head=dict(bbox_head=dict(fc_out_channels=16)))
HEADS = dict(
    retinanet=dict(base='retinanet', model=dict(bbox_head=dict(feat_channels=16))),
    **{name: dict(base=name, model=THIN_BOXES) for name in ('faster', 'cascade2', 'cascade3')},
)


@functools.cache
def slim(recipe=None):
    """The reference with few channels and proposals, and 10 classes."""
    factors = dict(size=SIZE, backbone=SLIM, neck=NECKS, rpn=RPNS, head=HEADS)
    return StructuralSpace(factors, num_classes=10, smallest_map=1, recipe=recipe)


@functools.cache
def reference():
    return StructuralSpace()


def build(space, arch, **changes):
    cfg = Config(copy.deepcopy(space.configure({}, space.parse(arch))))
    cfg.merge_from_dict(changes)
    torch.manual_seed(0)
    return build_model(cfg)


def batch():
    from mmdet.structures import DetDataSample

    samples = []
    for shift in (0, 8):
        sample = DetDataSample(metainfo=dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0)))
        boxes = torch.tensor([[4.0, 4, 30, 34], [20, 30, 50, 56]]) + shift
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 7]))
        samples.append(sample)
    images = [torch.randint(0, 255, (3, SIDE, SIDE), dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)


def run(model):
    """A loss step, then boxes of a batch of two; returns the parameters that got no gradient."""
    model.train()
    total, _ = model.parse_losses(model(**model.data_preprocessor(batch(), training=True), mode='loss'))
    assert torch.isfinite(total)
    total.backward()
    model.eval()
    with torch.no_grad():
        found = model(**model.data_preprocessor(batch()), mode='predict')
    assert len(found) == 2 and all(one.pred_instances.bboxes.shape[1] == 4 for one in found)
    return [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]


def by_class(space):
    """Members by class: backbone, whether there is a neck, RPN and head."""
    found = {}
    for arch in space.members:
        found.setdefault((arch.genes[1], arch.genes[2] == 'c4', *arch.genes[3:]), []).append(arch)
    return found
