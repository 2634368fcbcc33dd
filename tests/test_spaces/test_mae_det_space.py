"""The space of MAE-DET keeps the contract of spaces, and its rules hold for whatever comes out of it."""

import itertools

import numpy as np
import pytest

from detnas_mm.spaces import Architecture
from detnas_mm.systems.mae_det import MAEDetSpace
from detnas_mm.systems.mae_det.presets import PRESETS
from detnas_mm.systems.mae_det.structure import read_structure
from detnas_mm.testing import check_search_space

TINY = dict(
    strides=[2, 1], stem_widths=[8, 16], widths=[8, 48], growth=[1, 3], depths=[1, 2], bottlenecks=[8, 32],
    bottleneck_ratio=[0.4, 0.9],
)  # fmt: skip


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('space', ['authors', 'relaxed', TINY, dict(TINY, kernels=[3]), dict(TINY, strides=[2, 2])])
def test_conformance(space, seed):
    check_search_space(MAEDetSpace(space), seed)


def members(space):
    """All of them, by trying everything: rules written out as the authors state them."""
    spec = space.spec()
    multiples = [range(8, 49, 8)] * 2
    for stem, *outs in itertools.product(range(8, 17, 8), *multiples):
        widths = [stem, *outs]
        if not all(a <= b <= 3 * a for a, b in itertools.pairwise(widths)):
            continue
        rooms = [[b for b in range(8, 33, 8) if 0.4 * out <= b <= 0.9 * out] for out in outs]
        for btns in itertools.product(*rooms):
            for kernels in itertools.product(spec['kernels'], repeat=2):
                for depths in itertools.product((1, 2), repeat=2):
                    genes = [stem, 3, 2]
                    for part in zip(outs, kernels, spec['strides'], depths, btns, strict=True):
                        genes += part
                    yield genes


def test_size_and_membership_against_trying_everything():
    space = MAEDetSpace(TINY)
    all_members = np.array(list(members(space)))
    assert len(all_members) == space.size > 100
    assert space.contains(all_members).all()
    known = {tuple(row) for row in all_members.tolist()}
    rng = np.random.default_rng(0)
    assert {arch.genes for arch in space.sample_many(rng, 40_000)} == known, 'every member can be drawn'
    assert space.smallest().genes == tuple(all_members.min(axis=0))
    assert space.largest().genes == tuple(all_members.max(axis=0))
    wild = all_members[rng.integers(len(all_members), size=3000)] + 8 * rng.integers(-2, 3, size=(3000, 13))
    wild[:, 1:3] = 3, 2
    wild[:, 4::5], wild[:, 5::5], wild[:, 6::5] = 3, [2, 1], 1
    assert space.contains(wild).tolist() == [tuple(row) in known for row in wild.tolist()]
    for row in wild[:200]:
        if tuple(row) not in known:
            with pytest.raises(ValueError, match='[Bb]lock'):
                space.parse(row.tolist())


def test_every_gene_of_every_block_mutates():
    """Unlike in the authors' code, whose last block never does."""
    space = MAEDetSpace('authors')
    codes = np.repeat(space.encode([space.parse('maedet-init')]), 4000, axis=0)
    changed = (space.mutate_codes(codes, np.random.default_rng(0), 1.0) != codes).any(axis=0)
    genes = np.ones(len(changed), dtype=bool)
    genes[1:3] = genes[5::5] = False  # kernel and stride of the stem, strides
    assert changed.tolist() == genes.tolist()


@pytest.mark.parametrize(
    ('kinds', 'columns'), [(['out'], [0, 3, 7]), (['kernel'], [4]), (['depth'], [6]), (['bottleneck'], [7])]
)
def test_mutations_can_be_confined(kinds, columns):
    """Bottlenecks may follow their widths; nothing else moves."""
    space = MAEDetSpace('authors')
    codes = space.sample_codes(np.random.default_rng(1), 2000)
    changed = (space.mutate_codes(codes, np.random.default_rng(0), 1.0, kinds) != codes).any(axis=0)
    assert set(np.flatnonzero(changed)) == {c if c < 3 else c + 5 * b for c in columns for b in range(5 if c else 1)}
    with pytest.raises(ValueError, match=r"must be among out, kernel, depth, bottleneck; got \['stride'\]"):
        space.mutate_codes(codes, np.random.default_rng(0), 1.0, ['stride'])


def test_the_last_mutation_is_one_of_the_authors():
    """One round changes one gene by one of the factors, if nothing limits it."""
    space = MAEDetSpace('relaxed')
    arch = space.parse('128k3s2|512k3s2x8b256|1024k3s2x8b512|2048k3s2x8b800|3200k3s2x8b1000')
    codes = np.repeat(space.encode([arch]), 5000, axis=0)
    mutants = space.mutate_codes(codes, np.random.default_rng(0), 1.0, ['bottleneck'])
    ratios = set((mutants[:, 12] / 512).tolist())
    assert {1.25, 0.8125, 0.796875, 0.6015625, 0.5} & ratios and 1.0 in ratios
    depths = space.mutate_codes(codes, np.random.default_rng(0), 1.0, ['depth'])[:, 6]
    assert set(depths.tolist()) <= set(range(4, 13)) and {6, 7, 9, 10} <= set(depths.tolist())


def test_only_members_have_children():
    """So that the rules hold for whatever comes out."""
    space, rng = MAEDetSpace('authors'), np.random.default_rng(0)
    member = space.parse('maedet-init')
    foreign = read_structure('maedet-s')
    broken = Architecture((*member.genes[:6], 9, *member.genes[7:]))
    for arch, match in ((foreign, 'it has 4 blocks'), (broken, 'depth 9; allowed: 1–3'), (Architecture((1,)), 'genes')):
        for call in (
            lambda arch=arch: space.mutate(arch, rng, 0.0),
            lambda arch=arch: space.crossover(arch, member, rng),
            lambda arch=arch: space.crossover(member, arch, rng),
        ):
            with pytest.raises(ValueError, match=match):
                call()


def test_presets():
    for name in PRESETS:
        assert MAEDetSpace(name).name == name and MAEDetSpace(MAEDetSpace(name)).spec() == MAEDetSpace(name).spec()
    assert MAEDetSpace(TINY).name == 'custom'


@pytest.mark.parametrize(
    ('arch', 'match'),
    [
        ('maedet-s', 'it has 4 blocks after the stem; this space has 5'),
        ('40k3s2|64k3s2x1b64|64k3s2x1b64|64k3s2x1b64|64k3s1x1b64|64k3s2x1b64', 'stem .* width 40; allowed: .* 8–32'),
        ('8k3s2|64k3s2x1b64|64k3s2x1b64|64k3s2x1b64|64k3s2x1b64|64k3s2x1b64', 'block 4 has stride 2; this space has 1'),
        ('8k5s2|64k3s2x1b64|64k3s2x1b64|64k3s2x1b64|64k3s1x1b64|64k3s2x1b64', 'stem has kernel 5'),
        ('8k3s2|64k3s2x1b64|64k3s2x1b64|60k3s2x1b64|64k3s1x1b64|64k3s2x1b64', 'block 3 has width 60'),
        ('8k3s2|64k3s2x1b64|64k3s2x1b64|64k7s2x1b64|64k3s1x1b64|64k3s2x1b64', 'block 3 has kernel 7'),
        ('8k3s2|64k3s2x4b64|64k3s2x1b64|64k3s2x1b64|64k3s1x1b64|64k3s2x1b64', 'block 1 has depth 4; allowed: 1–3'),
        ('8k3s2|64k3s2x1b64|264k3s2x1b64|264k3s2x1b64|264k3s1x1b64|264k3s2x1b64', 'block 2 .* 264 after 64 .* growth'),
        ('8k3s2|64k3s2x1b64|56k3s2x1b56|64k3s2x1b64|64k3s1x1b64|64k3s2x1b64', 'block 2 .* 56 after 64 .rule growth'),
        ('8k3s2|64k3s2x1b64|240k3s2x1b16|240k3s2x1b64|240k3s1x1b64|240k3s2x1b64', 'block 2 .* 16 at .* 24–240'),
        ('8k3s2|64k3s2x1b72|64k3s2x1b64|64k3s2x1b64|64k3s1x1b64|64k3s2x1b64', 'block 1 .* bottleneck 72 at width 64'),
    ],
)  # fmt: skip
def test_messages_name_block_and_rule(arch, match):
    with pytest.raises(ValueError, match=match):
        MAEDetSpace('authors').parse(arch)


@pytest.mark.parametrize(
    ('space', 'match'),
    [
        ('huge', r"Unknown MAE-DET space 'huge'. Choose one of \['authors', 'relaxed'\]"),
        (3, 'got 3'),
        (dict(stride=[2]), r"unknown keys \['stride'\]. Keys: strides"),
        (dict(strides=[]), "'strides' must be a list of positive integers"),
        (dict(strides=[4]), "'strides' must be a list of 1 or 2"),
        (dict(TINY, kernels=[2]), "'kernels' odd"),
        (dict(TINY, stem_stride=3), "'stem_stride' must be 1 or 2"),
        (dict(TINY, widths=[0, 8]), "'widths' must be positive integers; got 0"),
        (dict(TINY, widths=[48, 8]), "'widths' must be .low, high."),
        (dict(TINY, growth=[[1, 2]]), "'growth' has 1 pairs for 2 blocks"),
        (dict(TINY, depths=[1]), "'depths' must be .low, high."),
        (dict(TINY, depths=3), "'depths' must be a pair"),
        (dict(TINY, bottleneck_ratio=[0, 1]), "'bottleneck_ratio' must be"),
        (dict(TINY, growth=[5, 6]), 'no width of block [01]'),
        (dict(TINY, growth=[1.5, 1.6], widths=[8, 96]), 'have gaps'),
        # Structures beyond these limits can be drawn, but neither read nor built.
        (dict(TINY, kernels=[3, 33]), "'kernels' allows 33; structures support at most 31"),
        (dict(TINY, stem_kernel=33), "'stem_kernel' allows 33"),
        (dict(TINY, depths=[1, 1001]), "'depths' allows 1001; structures support at most 1000"),
        (dict(TINY, widths=[8, 65_544]), "'widths' allows 65544; structures support at most 65536"),
        (dict(TINY, stem_widths=[8, 65_544]), "'stem_widths' allows 65544"),
        (dict(TINY, bottlenecks=[8, 65_544]), "'bottlenecks' allows 65544"),
        (dict(TINY, strides=[2] * 65), "'strides' has 65 blocks; structures have at most 64"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(space, match):
    with pytest.raises(ValueError, match=match):
        MAEDetSpace(space)
