"""The structural space: its table, which combinations are valid, text, what is drawn, what is refused."""

import itertools

import numpy as np
import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.search import SearchJob
from detnas_mm.systems.sm_nas.compatibility import conflict
from detnas_mm.systems.sm_nas.conditions import FACTORS
from detnas_mm.systems.sm_nas.factors import merged
from detnas_mm.systems.sm_nas.space import StructuralSpace
from detnas_mm.testing import check_search_space

TINY = dict(model=dict(backbone=dict(type='MyNet')), channels=(8, 16, 32), strides=(4, 8, 16))


@pytest.fixture(scope='module')
def reference():
    return StructuralSpace()


@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(recipe='from_scratch', num_classes=3),
        dict(
            factors=dict(head=['retinanet'], rpn=['none'], neck=['c4', 'fpn-p2-p5-256'], backbone=dict(mine=TINY)),
            smallest_map=1,
        ),
    ],
)
@pytest.mark.parametrize('seed', [0, 1])
def test_it_keeps_the_contract_of_spaces(settings, seed):
    check_search_space(StructuralSpace(**settings), seed)


def test_the_reference_has_what_the_paper_has(reference):
    table = {factor: list(values) for factor, values in reference.table.items()}
    assert table['size'] == ['512x512', '800x600', '1080x720', '1333x800']
    assert table['backbone'] == [
        'resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnext50', 'resnext101', 'mobilenetv2'
    ]  # fmt: skip
    assert {'c4', 'fpn-p1-p5-128', 'fpn-p2-p5-256', 'fpn-p2-p5-384'} < set(table['neck'])
    assert (table['rpn'], table['head']) == (
        ['none', 'rpn', 'ga-rpn'], ['retinanet', 'faster', 'cascade2', 'cascade3']
    )  # fmt: skip


def test_every_member_and_no_other_combination_is_read_and_printed_exactly(reference):
    """The whole product; and what is refused is refused with a reason."""
    members = {reference.describe(arch): arch for arch in reference.members}
    assert len(members) == reference.size
    refused = 0
    for names in itertools.product(*(reference.table[factor] for factor in FACTORS)):
        text = '/'.join(names)
        if text in members:
            assert reference.parse(text) == members[text] and reference.parse(list(names)).genes == names
            continue
        refused += 1
        values = {factor: reference.table[factor][name] for factor, name in zip(FACTORS, names)}
        assert conflict(values, reference.smallest_map)
    assert reference.size + refused == 4 * 7 * 28 * 3 * 4
    assert tuple(reference.decode(reference.encode(reference.members))) == reference.members


def test_compatibility_is_the_papers(reference):
    pairs = {(arch.genes[3], arch.genes[4]) for arch in reference.members}
    assert pairs == {
        ('none', 'retinanet'), ('rpn', 'faster'), ('rpn', 'cascade2'), ('rpn', 'cascade3'),
        ('ga-rpn', 'cascade2'), ('ga-rpn', 'cascade3'),
    }  # fmt: skip
    c4 = {(arch.genes[1], arch.genes[4]) for arch in reference.members if arch.genes[2] == 'c4'}
    resnets = [f'resnet{depth}' for depth in (18, 34, 50, 101)]
    resnexts = ['resnext50', 'resnext101']
    assert c4 == {(name, 'faster') for name in resnets} | {(name, 'retinanet') for name in resnets + resnexts}


@pytest.mark.parametrize(
    'text, reason',
    [
        ('800x600/resnet50/c4/rpn/cascade3', "head 'cascade3' has several stages, for which mmdet has no shared head"),
        ('800x600/resnext50/c4/rpn/faster', 'needs a shared_head'),
        ('800x600/mobilenetv2/c4/none/retinanet', 'so that the outputs of later stages would not be used'),
        ('800x600/resnet50/fpn-p1-p5-256/none/faster', "head 'faster' needs rpn 'rpn', not 'none'"),
        ('800x600/resnet50/fpn-p1-p5-256/ga-rpn/faster', "not 'ga-rpn'"),
        ('800x600/resnet50/fpn-p1-p5-256/rpn/fast', "Unknown head 'fast'; this space has retinanet, faster"),
        ('800x600/resnet50', 'is size/backbone/neck/rpn/head, such as'),
    ],
)
def test_what_is_not_valid_is_refused_with_its_reason(reference, text, reason):
    with pytest.raises(DetNASError) as error:
        reference.parse(text)
    assert reason in str(error.value)


def test_the_smallest_map_is_a_rule():
    """Of the authors' early implementation: its sides are three pixels at least."""
    factors = dict(
        size={'96': dict(scale=(120, 96)), '192': dict(scale=(192, 192))}, neck=['fpn-p1-p4-128', 'fpn-p2-p5-128']
    )
    space = StructuralSpace(factors)
    assert {(arch.genes[0], arch.genes[2]) for arch in space.members} == {
        ('96', 'fpn-p1-p4-128'), ('192', 'fpn-p1-p4-128'), ('192', 'fpn-p2-p5-128')
    }  # fmt: skip
    with pytest.raises(
        DetNASError, match='ends at stride 64, where the feature map of size .96. is smaller than 3 x 3'
    ):
        space.parse('96/resnet18/fpn-p2-p5-128/rpn/faster')
    assert StructuralSpace(factors, smallest_map=1).parse('96/resnet18/fpn-p2-p5-128/rpn/faster')


def test_a_mutation_brings_what_a_new_value_needs(reference):
    """From a detector of one stage all heads are reached by a change of one factor, with their RPN."""
    rng = np.random.default_rng(0)
    parent = reference.parse('800x600/resnet50/fpn-p2-p5-256/none/retinanet')
    children = {reference.mutate(parent, rng, 0.2) for _ in range(400)}
    assert {child.genes[3:] for child in children} == {arch.genes[3:] for arch in reference.members}
    assert any(child.genes[:3] == parent.genes[:3] and child.genes[4] == 'faster' for child in children)


def test_a_child_has_what_its_parents_have(reference):
    rng = np.random.default_rng(0)
    first = reference.parse('800x600/resnet50/c4/none/retinanet')
    second = reference.parse('512x512/resnext101/fpn-p1-p5-128/ga-rpn/cascade3')
    children = {reference.crossover(first, second, rng) for _ in range(200)}
    assert len(children) > 8
    for child in children:
        assert all(gene in pair for gene, pair in zip(child.genes, zip(first.genes, second.genes)))


def test_a_table_is_data():
    """Values of one's own beside those of the reference, changed ones, and others left out."""
    own = dict(
        resnet18='resnet18',
        thin=dict(base='resnet18', model=dict(backbone=dict(base_channels=16)), channels=(16, 32, 64, 128)),
        mine=TINY,
        resnet50=None,
    )
    space = StructuralSpace(dict(backbone=own))
    assert list(space.table['backbone']) == ['resnet18', 'thin', 'mine']
    thin = space.table['backbone']['thin']
    assert thin.model['backbone'] == space.table['backbone']['resnet18'].model['backbone'] | dict(base_channels=16)
    assert thin.outputs == [(0, 16, 4), (1, 32, 8), (2, 64, 16), (3, 128, 32)]
    necks = {arch.genes[2] for arch in space.members if arch.genes[1] == 'mine'}
    assert 'fpn-p1-p4-256' in necks and 'c4' in necks, 'levels beyond the last are pooled, and it ends at stride 16'
    again = StructuralSpace(**space.spec())
    assert again.spec() == space.spec() and again.members == space.members


def test_a_changed_backbone_is_asked_again_if_it_says_so():
    model = dict(backbone=dict(base_channels=16))
    space = StructuralSpace(
        dict(backbone=dict(thin=dict(base='resnet18', model=model, channels=None, strides=None)))
    )  # fmt: skip
    assert space.table['backbone']['thin'].outputs == [(0, 16, 4), (1, 32, 8), (2, 64, 16), (3, 128, 32)]


def test_fragments_are_merged():
    base = dict(a=dict(b=1, c=2), heads=[dict(fc=8), dict(fc=8, x=1)], pair=[1, 2])
    assert merged(base, dict(a=dict(c=3))) == base | dict(a=dict(b=1, c=3))
    assert merged(base, dict(a=dict(_delete_=True, d=4)))['a'] == dict(d=4)
    assert merged(base, dict(heads=dict(fc=4)))['heads'] == [dict(fc=4), dict(fc=4, x=1)]
    assert merged(base, dict(heads=[dict(y=1), dict(y=2)]))['heads'] == [dict(fc=8, y=1), dict(fc=8, x=1, y=2)]
    assert merged(base, dict(heads=[dict(y=1)], pair=[3])) == base | dict(heads=[dict(y=1)], pair=[3])
    assert base['heads'][0] == dict(fc=8), 'what is merged stays as it was'


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(num_classes=0), 'num_classes must be'),
        (dict(recipe='scratch'), "'from_scratch'; got 'scratch'"),
        (dict(recipe=dict(norm='GN')), 'recipe must be a dict such as'),
        (dict(recipe=dict(norm_cfg=dict(type='BN'), conv_cfg=None)), r"recipe.conv_cfg must be .*type='Conv2d'"),
        (dict(smallest_map=0), 'smallest_map must be'),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(DetNASError, match=message):
        StructuralSpace(**settings)


# -- the input size -------------------------------------------------------------------------------------------------

RESIZE = dict(type='Resize', scale=(1, 1), keep_ratio=True)
LOAD = dict(type='LoadImageFromFile')


def data(*steps):
    return dict(dataset=dict(type='CocoDataset', pipeline=[LOAD, *steps]))


def test_the_input_size_is_set_in_every_pipeline(reference):
    """Of nested data sets too, and in the variables that tools of others read; nothing else changes."""
    flip = dict(type='RandomFlip', prob=0.5)
    several = dict(
        dataset=dict(type='ConcatDataset', datasets=[data(RESIZE, flip)['dataset'], data(RESIZE)['dataset']])
    )
    cfg = dict(train_dataloader=several, val_dataloader=data(RESIZE), test_dataloader=data(RESIZE))
    cfg['test_pipeline'] = [LOAD, RESIZE]
    before = repr(cfg)
    out = reference.configure(cfg, reference.parse('1080x720/resnet18/c4/none/retinanet'))
    assert repr(cfg) == before
    assert repr({key: out[key] for key in cfg}) == before.replace('(1, 1)', '(1080, 720)')
    assert out['default_scope'] == 'mmdet'


@pytest.mark.parametrize(
    'steps, message',
    [
        ((), 'has no Resize'),
        ((dict(type='RandomResize', scale=[(1, 1)]), RESIZE), 'has RandomResize, which sets sizes'),
    ],
)
def test_a_pipeline_without_a_fixed_size_is_refused(reference, steps, message):
    cfg = dict(train_dataloader=data(RESIZE), val_dataloader=data(*steps))
    with pytest.raises(DetNASError, match=f'val_dataloader.dataset.pipeline {message}'):
        reference.configure(cfg, reference.members[0])


def test_a_pipeline_of_several_images_that_sets_sizes_is_refused(reference):
    """With a Resize for each image, the mosaic of four would have one size for all values of the factor."""
    mixed = dict(type='MultiImageMixDataset', **data(RESIZE), pipeline=[dict(type='Mosaic', img_scale=(640, 640))])
    with pytest.raises(DetNASError, match='train_dataloader.dataset.pipeline has Mosaic, which sets sizes'):
        reference.configure(dict(train_dataloader=dict(dataset=mixed)), reference.members[0])
    mixed['pipeline'] = [dict(type='RandomFlip', prob=0.5), RESIZE]
    out = reference.configure(dict(train_dataloader=dict(dataset=mixed)), reference.members[0])['train_dataloader']
    assert out['dataset']['pipeline'][1]['scale'] == out['dataset']['dataset']['pipeline'][1]['scale'] == (512, 512)


@pytest.mark.parametrize('kind', ['BatchSyncRandomResize', 'BatchFixedSizePad'])
def test_batches_that_set_sizes_are_refused(reference, kind):
    own = dict(type='DetDataPreprocessor', batch_augments=[dict(type=f'mmdet.{kind}', size=(640, 640))])
    with pytest.raises(DetNASError, match=f'model.data_preprocessor.batch_augments.0 is {kind}, which sets sizes of'):
        reference.configure(dict(model=dict(data_preprocessor=own)), reference.members[0])


def test_the_preprocessor_of_the_config_stays(reference):
    own = dict(type='DetDataPreprocessor', mean=[0.0], std=[1.0])
    cfg = dict(model=dict(type='RetinaNet', data_preprocessor=own, backbone=dict(type='X')))
    model = reference.configure(cfg, reference.members[0])['model']
    assert model['data_preprocessor'] == own and model['backbone']['type'] == 'ResNet'


def test_what_cannot_be_searched_is_refused_before_the_search():
    """The space is checked with the config when the job is prepared."""
    space = dict(type='StructuralSpace', factors=dict(head=['retinanet'], rpn=['none'], backbone=['resnet18']))
    cfg = dict(
        search=dict(space=space, objectives=[dict(name='x')]), train_dataloader=data(), default_scope='mmdet'
    )  # fmt: skip
    with pytest.raises(DetNASError, match='train_dataloader.dataset.pipeline has no Resize'):
        SearchJob.from_config(cfg).prepare()


def test_other_classes_than_those_of_the_data_are_refused_before_the_search(reference):
    of_two = data(RESIZE)
    of_two['dataset']['metainfo'] = dict(classes=('cat', 'dog'))
    with pytest.raises(DetNASError, match='num_classes does not fit the data: its heads have 80 classes, .* has 2 '):
        reference.check(dict(train_dataloader=of_two))
