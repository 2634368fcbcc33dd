"""The space of dilations: splits, text, settings, what is refused."""

import time
import warnings
from collections import Counter

import numpy as np
import pytest
from mmengine.registry import MODELS, DefaultScope

from detnas_mm import zoo
from detnas_mm.errors import DetNASError
from detnas_mm.systems.nats import DilationSpace, SearchedConv
from detnas_mm.testing import check_search_space
from tests.test_nats.nets import cfg_of, rng

R50 = dict(type='mmdet.ResNet', depth=50)
CONVS = [
    SearchedConv('layer2.0.conv2', 8, 1, 'layer2', 4),
    SearchedConv('layer3.0.conv2', 26, 1, 'layer3', 8),
    SearchedConv('layer4.0.conv2', 48, 6, 'layer4', 16),
    SearchedConv('layer4.1.conv2', 12, 12, 'layer4', 32),
]


def space(**settings):
    return DilationSpace(convs=CONVS, **settings)


@pytest.mark.parametrize(
    'settings',
    [dict(), dict(preset='ic-conv'), dict(groups=1), dict(channels_per_group=5, mutation='conv'), dict(genotypes=2)],
)
@pytest.mark.parametrize('seed', [0, 1])
def test_it_keeps_the_contract_of_spaces(settings, seed):
    check_search_space(space(**settings), seed)


def test_the_paper_of_a_resnet_50():
    found = DilationSpace(R50)
    assert found.stages == ('layer2', 'layer3', 'layer4') and len(found.convs) == 13
    assert len(found.choices) == 13 * 16 and set(found.choices[:160]) == {5} and set(found.choices[160:]) == {9}
    assert found.genotypes['layer4'][5:] == ((4, 4), (5, 5), (1, 5), (5, 1))
    assert [conv.stride for conv in found.convs[:2]] == [4, 8]


def test_ic_conv_of_a_resnet_50_has_a_gene_a_channel_and_is_quick():
    found = DilationSpace(R50, preset='ic-conv')
    assert len(found.choices) == 3776 and set(found.choices) == {16} and found.stages[0] == 'layer1'
    start = time.perf_counter()
    arch = found.sample(rng())
    for _ in range(10):
        arch = found.mutate(arch, rng(), 0.1)
        assert found.parse(found.describe(arch)) == arch
    assert time.perf_counter() - start < 5


def test_units_are_split_as_evenly_as_whole_units_allow():
    assert space(groups=4).splits == ((2, 2, 2, 2), (7, 7, 6, 6), (2, 2, 1, 1), (3, 3, 3, 3))
    assert space(groups=16).splits[0] == (1,) * 8 and space(groups=16).splits[2] == (1,) * 6
    assert [len(split) for split in space(channels_per_group=8).splits] == [1, 3, 6, 1]
    assert space(groups='unit').splits[1] == (1,) * 26
    with pytest.raises(DetNASError, match=r'^layer3\.0\.conv2 has 26 units of 1 channel, which do not divide into 4'):
        space(groups=4, strict=True)
    with pytest.raises(DetNASError, match=r'^layer2\.0\.conv2 has 8 units .* 16 equal groups'):
        space(groups=16, strict=True)
    with pytest.raises(DetNASError, match=r'^layer3\.0\.conv2 has 26 units .* into groups of 4 channels\. Use'):
        space(channels_per_group=4, strict=True)
    with pytest.raises(DetNASError, match=r'^layer2\.0\.conv2 has 8 units .* groups of 13 channels'):
        space(channels_per_group=13, strict=True)  # one group of 8
    assert DilationSpace(convs=CONVS[:2], channels_per_group=2, strict=True).splits[1] == (2,) * 13


def test_the_split_is_written_out():
    assert space(groups=4).notes() == [
        'layer2: convolutions: 1 of 8 channels in 4 groups of 2.',
        'layer3: convolutions: 1 of 26 channels in 4 groups of 6 or 7.',
        'layer4: convolutions: 1 of 48 channels in 4 groups of 8 or 16; 1 of 12 channels in 4 groups of 3.',
    ]
    assert space(groups=1).notes()[0] == 'layer2: convolutions: 1 of 8 channels in 1 group of 8.'
    assert DilationSpace(R50).notes()[1] == 'layer3: convolutions: 6 of 256 channels in 16 groups of 16.'


def test_text_is_the_runs_of_channels():
    found = space(groups=2)
    arch = found.parse('4:1x1+4:2x2|26:1x3|24:1x1+24:5x5|6:1x5+6:1x1')
    assert arch.genes == (0, 1, 3, 3, 0, 6, 7, 0)
    assert found.describe(arch) == '4:1x1+4:2x2|26:1x3|24:1x1+24:5x5|6:1x5+6:1x1'
    assert found.shares(arch)['layer2'] == {'1x1': 0.5, '2x2': 0.5, '3x3': 0, '1x3': 0, '3x1': 0}
    assert (
        found.shares_text(arch) == 'layer2: 1x1 50 %, 2x2 50 %; layer3: 1x3 100 %; layer4: 1x1 50 %, 5x5 40 %, 1x5 10 %'
    )


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            '8:1x1|26:1x1|48:1x1',
            r'dilations of 3 convolutions, separated by "\|"; the backbone has 4: layer2\.0\.conv2 …',
        ),
        ('7:1x1|26:1x1|48:1x1|12:1x1', r'layer2\.0\.conv2 has 8 channels; .* gives 7'),
        ('8:1x1|99:1x1|48:1x1|12:1x1', r'layer3\.0\.conv2 has 26 channels; .* gives more'),
        ('8:1x1|26:1x1|48:1x|12:1x1', r"layer4\.0\.conv2: cannot read '48:1x' as CHANNELS:HEIGHTxWIDTH"),
        ('8:0x1|26:1x1|48:1x1|12:1x1', r"cannot read '8:0x1'"),
        ('8:4x4|26:1x1|48:1x1|12:1x1', r'layer2\.0\.conv2: unknown genotype 4x4; those of layer2 are 1x1, 2x2, '),
        ('3:1x1+5:2x2|26:1x1|48:1x1|12:1x1', 'channels 0 to 3 are one group .* got 3:1x1\\+2x2'),
        ([0] * 7, 'must have 8 ids; got 7'),
        ([0] * 7 + [9], 'Id 7 of the architecture is 9; allowed are 0 to 8'),
    ],
)
def test_ill_formed_architectures_are_refused(text, message):
    with pytest.raises(DetNASError, match=message):
        space(groups=2).parse(text)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(convs=[]), r'convs must be a table of convolutions, rows of \(name, channels, .* got \[\]'),
        (dict(convs=[['layer2', 8]]), 'convs must be a table of convolutions'),
        (dict(in_channels='3'), "in_channels must be a whole number of at least 1; got '3'"),
        (dict(preset='natz'), "preset must be one of nats, ic-conv; got 'natz'"),
        (dict(groups=0), r"groups \(or 'unit'\) must be a whole number of at least 1; got 0"),
        (dict(groups=4, channels_per_group=4), 'Set groups or channels_per_group, not both'),
        (dict(genotypes=[(1, 1), (0, 2)]), 'genotypes must be pairs of dilations'),
        (dict(genotypes=[(1, 1), (1, 1)]), 'genotypes must not contain a pair twice'),
        (
            dict(genotypes=dict(layer2=3)),
            'one list for each of the stages layer2, layer3, layer4; got lists for layer2',
        ),
        (dict(mutation='block'), "mutation must be 'group' or 'conv'"),
        (dict(backbone=R50), 'needs either the plain backbone, .* not both'),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(DetNASError, match=message):
        DilationSpace(**{'convs': CONVS, **settings})


@pytest.mark.parametrize('backbone', ['mmdet.ResNet', dict(depth=50), 50])
def test_a_backbone_is_settings(backbone):
    with pytest.raises(DetNASError, match='backbone must be the config of the plain backbone, such as .* got '):
        DilationSpace(backbone)


@pytest.mark.parametrize('given', [16, None, ['nats']])
def test_settings_of_a_supernets_space_are_a_name_or_a_dict(given):
    with pytest.raises(DetNASError, match='model.backbone.space must be the name of a preset or settings'):
        MODELS.build(dict(type='detnas_mm.DilatedSupernet', plain='mmdet.ResNet', depth=18, space=given))


@pytest.mark.parametrize(
    ('backbone', 'settings', 'message'),
    [
        (
            dict(R50, dcn=dict(type='DCN', deform_groups=1), stage_with_dcn=(False, False, True, True)),
            dict(),
            r'layer3\.0\.conv2 is a DeformConv2dPack\. Only plain 3×3',
        ),
        (dict(R50, conv_cfg=dict(type='ConvWS')), dict(), r'layer1\.0\.conv2 is a ConvWS2d'),
        (dict(R50, conv_cfg=dict(type='ConvAWS')), dict(), r'layer1\.0\.conv2 is a ConvAWS2d'),
        (
            dict(R50, type='mmdet.DetectoRS_ResNet', sac=dict(type='SAC'), stage_with_sac=(False, True, True, True)),
            dict(),
            r'layer2\.0\.conv2 is a SAConv2d',
        ),
        (dict(R50), dict(stages='layer2'), r"stages must be a list of names, such as \['layer2', .* got 'layer2'\."),
        (
            dict(R50),
            dict(stages=['layer5']),
            'has no 3×3 convolution in layer5. Set stages=.* modules that have one, among: bn1, conv1, layer1',
        ),
        (dict(type='mmpretrain.VGG', depth=11), dict(), 'VGG has no 3×3 convolution in modules called layers'),
        (dict(type='mmpretrain.VAN', arch='tiny'), dict(), r'blocks1\.0\.mlp\.dwconv is a Conv2d of mmcv\.cnn\.bricks'),
        (dict(type='mmpretrain.RepMLPNet', arch='B'), dict(), 'the plain backbone, run on an image of 256x256: .*224'),
        (dict(type='mmdet.ResNett', depth=50), dict(), "'mmdet.ResNett' is not a registered model"),
        (dict(R50, deepness=3), dict(), 'ResNet'),
    ],
)
def test_backbones_without_such_convolutions_are_refused(backbone, settings, message):
    with pytest.raises(DetNASError, match=message):
        DilationSpace(backbone, **settings)


def test_a_type_may_be_a_class():
    from mmdet.models.backbones import ResNet

    found = DilationSpace(dict(R50, type=ResNet))
    assert found.spec() == DilationSpace(R50).spec()
    net = MODELS.build(dict(type='detnas_mm.DilatedBackbone', plain=ResNet, depth=50, base_channels=4, genotypes='2x2'))
    assert type(net) is ResNet and net.layer1[0].conv2.plan.parts[0][1] == (2, 2)


def test_a_type_without_a_scope_is_looked_up_in_the_one_in_force():
    """Mmdet's ResNeXt has 1 convolution group by default, mmpretrain's 32."""
    assert {conv.groups for conv in DilationSpace(dict(type='ResNeXt', depth=50)).convs} == {1}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert {conv.groups for conv in DilationSpace(dict(type='ResNeXt', depth=50)).convs} == {32}


def test_stages_can_be_named():
    found = DilationSpace(dict(type='mmpretrain.VGG', depth=11), stages=['features'], genotypes=2)
    assert len(found.convs) == 8 and found.stages == ('features',)


def test_work_of_published_dilations_in_blocks_of_16_channels():
    """Checks the figure 1.97 in docs/nats.md; all stages' 3×3 convolutions have equal work a channel and input."""
    net = zoo.get('ic-resnet50-detection')
    found = net.build_space()
    counts = [
        (conv, Counter(dilations)) for conv, dilations in zip(found.convs, found.dilations(found.parse(net.arch)))
    ]
    area = dict(layer1=64, layer2=16, layer3=4, layer4=1)
    work = sum(conv.channels**2 * area[conv.stage] for conv, _ in counts)
    blocks = sum(-(-n // 16) * 16 * conv.channels * area[conv.stage] for conv, own in counts for n in own.values())
    assert round(blocks / work, 2) == 1.97


def test_equal_genotypes_are_warned_of():
    with pytest.warns(
        UserWarning, match=r'layer4: on images of 96x96 its smallest maps have 3x3 pixels.*: 3x3 = 4x4 = 5x5, 1x3 = 1x5'
    ):
        space(input_size=(96, 96))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        space(input_size=192)


def test_a_spec_gives_the_space_back_without_its_backbone():
    found = DilationSpace(cfg_of('regnet'), groups=5, genotypes=3)
    again = DilationSpace.from_spec(found.spec())
    arch = found.sample(rng())
    assert again.spec() == found.spec() and again.describe(arch) == found.describe(arch)


def test_mutation_by_convolutions_redraws_whole_ones():
    found = space(groups=6, mutation='conv', genotypes=9)
    arch = found.sample(rng())
    changed = [
        [a == b for a, b in zip(ours, theirs, strict=True)]
        for seed in range(20)
        for ours, theirs in zip(found.genes(arch), found.genes(found.mutate(arch, rng(seed), 0.3)), strict=True)
    ]
    untouched = np.mean([all(same) for same in changed])
    assert 0.5 < untouched < 0.9  # most convolutions stay as they are, and few keep a single group by chance
    assert np.mean([np.mean(same) for same in changed if not all(same)]) < 0.1


def test_another_backbone_in_the_config_is_refused():
    found = DilationSpace(cfg_of('resnet_pytorch'))
    cfg = dict(model=dict(backbone=dict(cfg_of('resnet_pytorch'), depth=101)))
    with pytest.raises(DetNASError, match='is not that of the search space'):
        found.configure(cfg, found.sample(rng()))


def test_configure_keeps_the_backbones_settings():
    found = DilationSpace(R50)
    arch = found.sample(rng())
    own = dict(type='ResNet', depth=50, frozen_stages=1, init_cfg=dict(type='Pretrained', checkpoint='a.pth'))
    cfg = dict(default_scope='mmdet', model=dict(type='RetinaNet', backbone=own, neck=dict(type='FPN')))
    out = found.configure(cfg, arch)
    assert out['model']['backbone'] == dict(
        own, type='detnas_mm.DilatedBackbone', plain='mmdet.ResNet', stages=['layer2', 'layer3', 'layer4'],
        genotypes=found.describe(arch),
    )  # fmt: skip
    assert cfg['model']['backbone'] == own and out['model']['neck'] == cfg['model']['neck']
    supernet = dict(own, type='detnas_mm.DilatedSupernet', plain='mmdet.ResNet', space='nats', mixture=True)
    assert (
        found.configure(dict(cfg, model=dict(backbone=supernet)), arch)['model']['backbone'] == out['model']['backbone']
    )
    assert found.configure(out, found.sample(rng(1)))['model']['backbone']['plain'] == 'mmdet.ResNet'
    assert found.configure({}, arch)['model']['backbone']['depth'] == 50
