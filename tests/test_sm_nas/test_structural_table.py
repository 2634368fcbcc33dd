"""The table of factors: conditions between values, arguments that types lack, and tables that are refused."""

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.space import StructuralSpace

TINY = dict(model=dict(backbone=dict(type='MyNet')), channels=(8, 16, 32), strides=(4, 8, 16))

FIXED = dict(type='X', out_channels=8, in_channels=[1, 2, 3])


def test_heads_of_several_stages_go_with_necks_of_any_name():
    """A fragment of the reference that passes over such a neck by its name is named."""
    pafpn = dict(strides=(8, 64), model=dict(neck=dict(type='PAFPN', out_channels=128)))
    with pytest.warns(UserWarning, match=r"head 'retinanet' has when neck='fpn-\*', .* have neck c4, pafpn"):
        space = StructuralSpace(dict(neck=dict(c4='c4', pafpn=pafpn)))
    assert {arch.genes[4] for arch in space.members if arch.genes[2] == 'pafpn'} == set(space.table['head'])
    assert {arch.genes[4] for arch in space.members if arch.genes[2] == 'c4'} == {'retinanet', 'faster'}


def test_parts_of_any_factor_may_lack_arguments_of_the_recipe():
    """By the type that the value brings; beside what the recipe knows of types itself."""
    own = dict(
        backbone=dict(mine=dict(TINY, not_taken=['conv_cfg', 'norm_eval'])),
        neck=dict(
            mine=dict(strides=(4, 16), model=dict(neck=dict(type='MyNeck', out_channels=8)), not_taken=['norm_cfg'])
        ),
        rpn=dict(mine=dict(base='rpn', model=dict(rpn_head=dict(type='MyRPN')), not_taken=['norm_cfg', 'conv_cfg'])),
        head=dict(
            mine=dict(base='cascade2', model=dict(roi_head=dict(bbox_head=dict(type='MyHead'))), not_taken=['conv_cfg'])
        ),
    )
    own['head']['mine']['needs'] = dict(rpn='mine')
    space = StructuralSpace(own, recipe='from_scratch')
    model = space.configure({}, space.members[0])['model']
    parts = [model['backbone'], model['neck'], model['rpn_head'], *model['roi_head']['bbox_head']]
    found = [[key for key in ('norm_cfg', 'conv_cfg', 'norm_eval') if key in part] for part in parts]
    assert found == [['norm_cfg'], ['conv_cfg'], [], ['norm_cfg'], ['norm_cfg']]


def test_a_shared_head_follows_its_backbone():
    """Its stage has the style, norms and weights of the others."""
    caffe = dict(style='caffe', norm_cfg=dict(requires_grad=False), init_cfg=dict(checkpoint='caffe.pth'))
    space = StructuralSpace(dict(backbone=dict(mine=dict(base='resnet50', model=dict(backbone=caffe)))))
    model = space.configure({}, space.parse('800x600/mine/c4/rpn/faster'))['model']
    shared = model['roi_head']['shared_head']
    assert (shared['type'], shared['style'], shared['norm_eval']) == ('ResLayer', 'caffe', True)
    assert (
        all(shared[key] == model['backbone'][key] for key in caffe) and shared['init_cfg']['checkpoint'] == 'caffe.pth'
    )


@pytest.mark.parametrize(
    'factors, message',
    [
        (dict(backbones={}), "with no keys other than size, backbone, neck, rpn, head"),
        (dict(backbone={}), 'factors.backbone has no value'),
        (dict(backbone=['resnet20']), "factors.backbone.resnet20: 'resnet20' is not a value of the paper"),
        (dict(backbone=dict(mine=dict(type='MyNet'))), 'factors.backbone.mine must be a dict such as'),
        (dict(backbone=dict(mine=dict(model={}))), "factors.backbone.mine.model must have a backbone with a type"),
        (dict(backbone=dict(mine=TINY | dict(strides=(4, 8)))), 'must have an entry for each output'),
        (dict(backbone=dict(mine=TINY | dict(strides=None))), 'give both channels and strides of its'),
        (dict(backbone=dict(mine=TINY | dict(channels=(0, 1, 2)))), 'at least 1; got 0'),
        (dict(size={'800,600': dict(scale=(800, 600))}), "a name may have letters, digits, '-' and '_'"),
        (dict(size=dict(small=dict(scale=640))), 'factors.size.small.scale must be two whole numbers'),
        (dict(neck=dict(mine=dict(strides=(8, 60)))), 'must double from the first to the last; got 8 to 60'),
        (dict(neck=dict(mine=dict(strides=(8, 16)))), 'has no model.neck'),
        (dict(neck=dict(mine=dict(strides=(8, 16), model=dict(neck=dict(type='FPN'))))), 'needs out_channels'),
        (dict(neck=dict(mine=dict(strides=(8, 16), model=dict(neck=[FIXED, FIXED])))), 'model.neck must be a dict'),
        (dict(neck=dict(mine=dict(strides=(16, 16), model=dict(neck=None)))), 'model.neck must be a dict; got None'),
        (dict(head=dict(mine=dict(model=dict(type='X', bbox_head=5)))), 'model.bbox_head must be a dict; got 5'),
        (dict(size=dict(mine=dict(base=['512x512']))), "['512x512'] is not a value of the paper"),
        (
            dict(neck=dict(mine=dict(strides=(8, 16), model=dict(neck=dict(out_channels=0))))),
            'out_channels must be a whole number of at least 1',
        ),
        (dict(neck=dict(mine=dict(strides=(8, 16), model=dict(neck=FIXED | dict(in_channels=5))))), 'be a list, such'),
        (dict(backbone=dict(mine=TINY | dict(out_indices=('a', 'b', 'c')))), 'out_indices must be a whole number'),
        (dict(backbone=dict(mine=TINY | dict(out_indices=(0, 0, 1)))), 'must have an entry for each output'),
        (dict(backbone=dict(mine=TINY | dict(not_taken=['conv']))), 'not_taken must be some of norm_cfg, conv_cfg'),
        (dict(backbone=dict(mine=TINY | dict(cuts={16: 3}))), 'cuts must have a dict of settings by stride'),
        (dict(head=dict(mine=dict(model=dict(type='X')))), 'either bbox_head (one stage) or roi_head'),
        (dict(rpn=dict(mine=dict(needs=dict(rpn='x')))), "has a condition on 'rpn'"),
        (dict(head=dict(mine=dict(base='faster', needs=dict(nick='c4')))), "has a condition on 'nick'"),
        (dict(neck=dict(mine=dict(base='fpn-p2-p5-128', not_taken=['norm_eval']))), 'conv_cfg, num_outs; got'),
        # patterns that match nothing
        (
            dict(head=dict(mine=dict(base='faster', when=[dict(neck='fnp-*', model={})]))),
            "head 'mine' has when neck='fnp-*', which matches no neck; there are c4, fpn-p1-p4-128, ",
        ),
        (
            dict(head=dict(mine=dict(base='faster', needs=dict(rpn=['rpn', 'rnp'])))),
            "head 'mine' has needs rpn='rnp', which matches no rpn; there are none, rpn, ga-rpn",
        ),
        (
            dict(neck=['fpn-p2-p5-128'], backbone=dict(mine=dict(base='resnet18', when=[dict(neck='c4', model={})]))),
            "backbone 'mine' has when neck='c4', which applies to no valid combination; those with "
            "backbone 'mine' have neck fpn-p2-p5-128. Correct the entry",
        ),
        # in no valid combination
        (dict(head=['faster'], rpn=['rpn', 'ga-rpn']), "rpn 'ga-rpn' is compatible with no head: head 'faster' needs"),
        (
            dict(backbone=dict(mine=TINY | dict(strides=(3, 6, 12)))),
            "backbone 'mine' is compatible with no neck: neck 'c4' reads maps of strides 16",
        ),
        (
            dict(neck=dict(fixed=dict(strides=(8, 32), model=dict(neck=FIXED)))),
            "neck 'fixed' is compatible with no backbone: neck 'fixed' has in_channels=[1, 2, 3]",
        ),
        (dict(neck=['c4'], backbone=['mobilenetv2', 'resnet18']), "backbone 'mobilenetv2' is compatible with no neck"),
        (dict(size=dict(tiny=dict(scale=(64, 32)))), "size 'tiny' is compatible with no neck"),
        (
            dict(
                size=dict(small=dict(scale=(64, 64)), large=dict(scale=(512, 512))),
                neck={'p4': 'fpn-p2-p4-128', 'p1': dict(base='fpn-p1-p4-128', needs=dict(size='small'))},
                rpn=['rpn', 'none'],
                head=dict(faster='faster', retinanet='retinanet', lost=dict(base='faster', needs=dict(neck='p1'))),
            ),
            "Also in no valid combination: neck 'p1', head 'lost'.",
        ),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(factors, message):
    with pytest.raises(DetNASError) as error:
        StructuralSpace(factors)
    assert message in str(error.value)
