"""The modular space: seeds of ordinary configs, members around them, and the configs that come out."""

import copy
import itertools
import json
import shutil
from math import comb

import numpy as np
import pytest
from mmengine.config import Config

from detnas_mm.config_types import comparable
from detnas_mm.errors import DetNASError
from detnas_mm.models.build import build_model, without_memory
from detnas_mm.spaces import Architecture
from detnas_mm.systems.sm_nas.codes import BlockCode
from detnas_mm.systems.sm_nas.modular import ModularSpace
from detnas_mm.testing import check_search_space

from .seeds import CASCADE, FASTER, RETINA18, RETINA50, derived, first_stage, read


@pytest.fixture(scope='module')
def space():
    return ModularSpace([FASTER, CASCADE, 'mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'])


@pytest.mark.parametrize('seed', [0, 1])
def test_it_keeps_the_contract_of_spaces(space, seed):
    check_search_space(space, seed)


def test_its_size_counts_all_members():
    space = ModularSpace(RETINA18, base=(64, 72), neck=(256,), depth=(4, 8))
    codes = {
        '-'.join(''.join(symbols[a:b]) for a, b in zip((0, *cuts), (*cuts, n), strict=True))
        for n in range(4, 9)
        for symbols in itertools.product('12', repeat=n)
        if symbols.count('2') == 3
        for cuts in itertools.combinations(range(1, n), 3)
    }
    assert space.size == 2 * len(codes)
    rng = np.random.default_rng(0)
    drawn = {arch.genes[2] for arch in space.sample_many(rng, 2000)}
    assert drawn <= codes and all(space.parse(f'seed1:basic_64_{code}_256') for code in codes)


def test_detectors_that_differ_in_what_is_searched_are_one_combination(space):
    assert list(space.combinations) == ['seed1', 'seed2']
    assert [space.describe(point) for point in space.starting_points] == [
        'seed1:bottleneck_64_111-2111-211111-211_256',
        'seed2:bottleneck_64_111-2111-211111-211_256',
        f'seed1:bottleneck_64_111-2111-2{"1" * 22}-211_256',
    ]


def test_the_kind_of_blocks_parts_combinations():
    space = ModularSpace([RETINA18, RETINA50, 'mmdet::retinanet/retinanet_x101-32x4d_fpn_1x_coco.py'])
    assert [space.describe(point) for point in space.starting_points] == [
        'seed1:basic_64_11-21-21-21_256',
        'seed2:bottleneck_64_111-2111-211111-211_256',
        f'seed3:resnext_64_111-2111-2{"1" * 22}-211_256',
    ]


def test_an_own_detector_gives_its_code_and_norms_make_no_difference(tmp_path):
    own = ModularSpace(FASTER).configure(read(FASTER), Architecture(('seed1', 56, '1-21-21-12', 128)))
    (tmp_path / 'own.py').write_text(Config(own, format_python_code=False).pretty_text)
    space = ModularSpace([FASTER, str(tmp_path / 'own.py')])
    assert [space.describe(point) for point in space.starting_points] == [
        'seed1:bottleneck_64_111-2111-211111-211_256',
        'seed1:bottleneck_56_1-21-21-12_128',
    ]


# -- seeds ----------------------------------------------------------------------------------------------------------


def test_its_spec_does_not_depend_on_where_seeds_are(tmp_path):
    best = first_stage(tmp_path / 'here', [FASTER, RETINA18])
    shutil.move(tmp_path / 'here', tmp_path / 'there')
    moved = ModularSpace(dict(file=str(tmp_path / 'there' / 'best.json')))
    named = ModularSpace([FASTER, RETINA18])
    assert moved.spec() == named.spec()
    assert str(tmp_path) not in json.dumps(moved.spec()) and not best.exists()
    assert ModularSpace([RETINA18, FASTER]).spec() != named.spec()


def test_its_spec_says_what_the_detectors_are(tmp_path):
    other = derived(tmp_path / 'other.py', FASTER, 'model = dict(rpn_head=dict(loss_bbox=dict(loss_weight=2.0)))')
    assert ModularSpace(other).spec() != ModularSpace(FASTER).spec()
    assert ModularSpace(FASTER, edits=2).spec() != ModularSpace(FASTER).spec()


@pytest.mark.parametrize(
    'settings, text',
    [
        (dict(base=(63, 64)), 'base must be even'),
        (dict(neck=()), 'neck is empty'),
        (dict(depth=(3, 20)), 'depth must be'),
        (dict(depth=(20, 5)), 'depth must be'),
        (dict(doublings=-1), 'doublings must be'),
        (dict(base_move=1.5), r'base_move must lie in \[0, 1\]'),
        (dict(edits=0), 'edits must be'),
        (dict(recipe='bn'), 'recipe must be'),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, text):
    with pytest.raises(DetNASError, match=text):
        ModularSpace(FASTER, **settings)


@pytest.mark.parametrize(
    'text, said',
    [
        ('seed9:bottleneck_64_1-21-21-12_128', "Unknown seed 'seed9'; this space has seed1, seed2"),
        ('seed1:basic_64_1-21-21-12_128', 'its blocks are basic, and those of seed1 are bottleneck'),
        ('seed1:bottleneck_60_1-21-21-12_128', 'its base 60 is not one of'),
        ('seed1:bottleneck_64_1-21-21-12_100', 'its neck has 100 channels'),
        ('seed1:bottleneck_64_1-21-21-11_128', 'doubles the channels 2 times, not 3'),
        ('seed1:bottleneck_64_1-21-212_128', 'has 3 stages'),
        ('seed1:bottleneck_64_1-2-2-2_128', 'has 4 blocks'),
        ('seed1:bottleneck_64_1-21-x1-12_128', "'x' at position 6"),
        ('bottleneck_64_1-21-21-12_128', 'SEED:BLOCK_BASE_STAGES_NECK'),
    ],
)
def test_what_is_no_member_is_refused_with_the_reason(space, text, said):
    with pytest.raises(DetNASError, match=said):
        space.parse(text)


def test_a_backbone_of_three_stages_has_codes_of_three_stages_and_a_doubling_less(tmp_path):
    three = 'dict(depth=18, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2))'
    slim = f'model = dict(backbone={three}, neck=dict(in_channels=[64, 128, 256]))'
    space = ModularSpace([derived(tmp_path / 'mine.py', RETINA18, slim), RETINA18], depth=(5, 8))
    assert [space.describe(point) for point in space.starting_points] == [
        'seed1:basic_64_11-21-21_256',
        'seed2:basic_64_11-21-21-21_256',
    ]
    assert space.size == 12 * sum(comb(n, 2) * comb(n - 1, 2) + comb(n, 3) * comb(n - 1, 3) for n in range(5, 9))
    check_search_space(space)
    model = space.configure({}, space.starting_points[0])['model']
    assert model['neck']['in_channels'] == [64, 128, 256] and model['backbone']['out_indices'] == (0, 1, 2)
    with pytest.raises(DetNASError, match='has 4 stages, not 3'):
        space.parse('seed1:basic_64_11-21-21-21_256')


# -- mutation -------------------------------------------------------------------------------------------------------


def test_a_whole_mutation_moves_to_neighbours_and_edits(space):
    parent = space.parse('seed1:bottleneck_56_1-21-21-12_256')
    rng = np.random.default_rng(0)
    children = [space.mutate(parent, rng, 1.0).genes for _ in range(2000)]
    bases, necks = ([child[i] for child in children] for i in (1, 3))
    assert {*bases} == {48, 56, 64}  # neighbours alone
    assert abs(np.mean([base != 56 for base in bases]) - 0.5) < 0.04
    assert {*necks} == {128, 256, 384} and abs(np.mean([neck != 256 for neck in necks]) - 0.5) < 0.04
    assert {child[0] for child in children} == {'seed1'}
    depths = {BlockCode.parse(child[2]).depth for child in children}
    assert depths == {5, 6, 7, 8, 9, 10}  # of 7 blocks, by three edits; 4 are too few


def test_a_value_at_the_end_moves_inwards(space):
    rng = np.random.default_rng(0)
    parent = space.parse('seed1:bottleneck_72_1-21-21-12_384')
    children = [space.mutate(parent, rng, 1.0).genes for _ in range(200)]
    assert {child[1] for child in children} == {64, 72} and {child[3] for child in children} == {256, 384}


def test_most_children_are_new(space, capsys):
    """The share of valid, new children, as a search meets it: parents on a front, children never asked for before."""
    rng = np.random.default_rng(0)
    parents = space.sample_many(rng, 20) + space.starting_points
    seen, valid, draws = set(parents), 0, 1000
    for _ in range(draws):
        child = space.mutate(parents[rng.integers(len(parents))], rng, 1.0)
        space.validate(child)
        valid += child not in seen
        seen.add(child)
    with capsys.disabled():
        print(f'\nmodular space: {valid / draws:.1%} of {draws} children of {len(parents)} parents are valid and new')
    assert valid / draws > 0.9


def test_a_child_of_two_is_made_of_both(space):
    rng = np.random.default_rng(0)
    first, second = (space.parse(f'seed{i}:bottleneck_{b}_{c}_{n}') for i, b, c, n in (
        (1, 48, '1-21-21-12', 128), (2, 72, '11-21-21-21', 384)))  # fmt: skip
    children = {space.describe(space.crossover(first, second, rng)) for _ in range(200)}
    assert len(children) == 8
    assert all(('seed1' in child) == ('1-21-21-12' in child) for child in children)


def test_codes_are_read_back(space):
    archs = space.sample_many(np.random.default_rng(0), 50) + space.starting_points
    assert space.decode(space.encode(archs)) == archs


# -- the order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'x, y, holds',
    [
        ('seed1:bottleneck_64_1-21-21-12_128', 'seed1:bottleneck_64_11-21-211-12_128', True),  # ones inserted
        ('seed1:bottleneck_64_11-21-211-12_128', 'seed1:bottleneck_64_1-21-21-12_128', False),  # the other way
        ('seed1:bottleneck_64_1-21-21-12_128', 'seed1:bottleneck_64_11-21-21-21_128', False),  # a 2 elsewhere
        ('seed1:bottleneck_56_1-21-21-12_128', 'seed1:bottleneck_64_11-21-21-12_128', False),  # other channels, too
        ('seed1:bottleneck_64_1-21-21-12_128', 'seed1:bottleneck_64_11-21-21-12_256', False),
        ('seed1:bottleneck_56_1-21-21-12_128', 'seed1:bottleneck_64_1-21-21-12_128', True),  # a smaller base
        ('seed1:bottleneck_64_1-21-21-12_128', 'seed1:bottleneck_64_1-21-21-12_256', True),  # a smaller neck
        ('seed1:bottleneck_56_1-21-21-12_128', 'seed1:bottleneck_64_1-21-21-12_256', True),  # both
        ('seed1:bottleneck_56_1-21-21-12_256', 'seed1:bottleneck_64_1-21-21-12_128', False),  # one larger
        ('seed1:bottleneck_64_1-21-21-12_128', 'seed2:bottleneck_64_11-21-21-12_128', False),  # another seed
        ('seed1:bottleneck_64_1-21-21-12_128', 'seed1:bottleneck_64_1-21-21-12_128', False),  # itself
    ],
)
def test_what_precedes_what(space, x, y, holds):
    assert space.precedes(space.parse(x), space.parse(y)) is holds


# -- configs --------------------------------------------------------------------------------------------------------


def test_a_config_keeps_the_seeds_model_and_has_its_pipelines(space):
    cfg = read(RETINA18)
    cfg['train_dataloader']['dataset']['data_root'] = 'elsewhere/'
    before = copy.deepcopy(cfg)
    out = space.configure(cfg, space.parse('seed2:bottleneck_56_211-111111111-2111111-11112111_128'))
    assert cfg == before and out['train_dataloader']['dataset']['data_root'] == 'elsewhere/'
    model = out['model']
    assert model['type'] == 'CascadeRCNN'
    backbone = model['backbone']
    assert (backbone['type'], backbone['code'], backbone['base'], backbone['block']) == (
        'detnas_mm.SMNASBackbone', '211-111111111-2111111-11112111', 56, 'bottleneck',
    )  # fmt: skip
    assert not backbone['norm_eval'] and 'init_cfg' not in backbone and 'frozen_stages' not in backbone
    assert model['neck']['in_channels'] == [448, 448, 896, 1792] and model['neck']['out_channels'] == 128
    assert model['rpn_head']['in_channels'] == model['rpn_head']['feat_channels'] == 128
    assert model['roi_head']['bbox_roi_extractor']['out_channels'] == 128
    assert [head['in_channels'] for head in model['roi_head']['bbox_head']] == [128] * 3
    assert [head['fc_out_channels'] for head in model['roi_head']['bbox_head']] == [1024] * 3
    seed = read(CASCADE)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert out[loader]['dataset']['pipeline'] == seed[loader]['dataset']['pipeline']


@pytest.mark.parametrize('name, params', [('smnas-e0_fpn_coco', 16_230_848), ('smnas-e3_cascade_coco', 52_051_914)])
def test_published_detectors_come_out_as_they_are(name, params):
    """Taken apart and put together again, a detector of the recipe has the same tensors; both are in the space."""
    source = f'detnas_mm::sm_nas/{name}.py'
    cfg = read(source)
    space = ModularSpace(source)
    out = space.configure(cfg, space.starting_points[0])
    with without_memory():
        models = [build_model(Config(dict(model=one['model'], default_scope='mmdet'))) for one in (out, cfg)]
    shapes, expected = ({key: value.shape for key, value in model.state_dict().items()} for model in models)
    assert shapes == expected and sum(one.numel() for one in models[0].parameters()) == params
    assert comparable({**out, 'model': None}) == comparable({**cfg, 'model': None})


def test_a_width_of_a_head_that_is_not_the_necks_stays(tmp_path):
    space = ModularSpace(derived(tmp_path / 'slim.py', FASTER, 'model = dict(rpn_head=dict(feat_channels=64))'))
    model = space.configure({}, space.parse('seed1:bottleneck_64_1-21-21-12_128'))['model']
    assert model['rpn_head']['feat_channels'] == 64 and model['rpn_head']['in_channels'] == 128


def test_arguments_that_a_neck_lacks_are_left_out(tmp_path):
    mine = derived(tmp_path / 'mine.py', FASTER, "model = dict(neck=dict(type='MyNeck'))")
    space = ModularSpace(mine, not_taken=dict(MyNeck=['conv_cfg']))
    neck = space.configure({}, space.starting_points[0])['model']['neck']
    assert 'norm_cfg' in neck and 'conv_cfg' not in neck
    assert space.spec()['not_taken'] == dict(MyNeck=['conv_cfg']) and 'not_taken' not in ModularSpace(mine).spec()
    with pytest.raises(DetNASError, match='not_taken must list norm_cfg, conv_cfg or both by type'):
        ModularSpace(mine, not_taken=dict(MyNeck=['norm']))
