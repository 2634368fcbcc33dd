"""Every class of valid combinations of the structural space builds, trains and predicts."""

import numpy as np
import pytest
from torch import nn

from detnas_mm.models import GroupNorm, StandardizedConv2d
from detnas_mm.systems.sm_nas.space import StructuralSpace

from .detectors import FEW, NAMES, NECKS, SIZE, build, by_class, reference, run, slim


@pytest.mark.slow
@pytest.mark.parametrize('backbone', NAMES)
def test_every_class_of_combinations_runs(backbone):
    """Each builds, takes a step in which every parameter gets a gradient, and predicts a batch of two on the CPU.

    Necks are drawn; recipes take turns. Of depths that differ in the number of blocks alone, one class is drawn.
    """
    rng = np.random.default_rng(0)
    classes = [found for key, found in by_class(slim()).items() if key[0] == backbone]
    assert len(classes) == (6 if backbone == 'mobilenetv2' else 7)
    if backbone in ('resnet34', 'resnet101', 'resnext101'):
        classes = [classes[i] for i in rng.permutation(len(classes))[:1]]
    for number, found in enumerate(classes):
        arch = found[rng.integers(len(found))]
        space = slim(None if number % 2 else 'from_scratch')
        model = build(space, arch)
        assert not run(model), space.describe(arch)
        if number % 2 == 0:
            assert all(value.requires_grad for value in model.parameters())
            kinds = {type(module) for module in model.backbone.modules()}
            assert {GroupNorm, StandardizedConv2d} <= kinds and not kinds & {nn.BatchNorm2d}


@pytest.mark.slow
def test_every_neck_runs():
    """With heads of one and of two stages: levels beyond the backbone's last, and a backbone that ends before."""
    for neck in NECKS:
        for heads in ('none/retinanet', 'rpn/faster')[: 1 if neck == 'c4' else 2]:
            model = build(slim('from_scratch' if 'faster' in heads else None), f'small/resnet18/{neck}/{heads}')
            assert not run(model), (neck, heads)
            assert hasattr(model.backbone, 'layer4') == (neck not in ('c4', 'fpn-p2-p3'))


@pytest.mark.slow
@pytest.mark.parametrize('recipe', [None, 'from_scratch'])
def test_boxes_on_c4(recipe):
    """Mmdet's shared head has the channels of whole ResNets alone; few boxes, since it takes its time for each."""
    few = dict(train_cfg=dict(rpn_proposal=FEW, rcnn=dict(sampler=dict(num=4))), test_cfg=dict(rpn=dict(max_per_img=4)))
    head = dict(faster=dict(base='faster', when=[dict(neck='c4', model=few)]))
    factors = dict(size=SIZE, backbone=['resnet18'], neck=['c4'], rpn=['rpn'], head=head)
    space = StructuralSpace(factors, num_classes=10, recipe=recipe)
    model = build(space, space.members[0])
    assert not run(model) and not hasattr(model.backbone, 'layer4') and hasattr(model.roi_head.shared_head, 'layer4')
    kinds = [type(module) for module in model.roi_head.shared_head.modules()]
    assert (StandardizedConv2d in kinds, nn.BatchNorm2d in kinds) == (recipe is not None, recipe is None)


def test_members_of_the_full_product_build():
    """Without memory: of the whole reference, C4 of bottlenecks and a draw."""
    space, rng = reference(), np.random.default_rng(0)
    for arch in [space.parse('800x600/resnet50/c4/rpn/faster'), *space.sample_many(rng, 6)]:
        space.check_member({}, arch)
