"""The space of DetNAS: the paper's figures, its draws, and what it refuses."""

import numpy as np
import pytest

from detnas_mm.spaces import Architecture
from detnas_mm.spaces.conv import Conv
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.detnas.space import OPS
from detnas_mm.testing import check_search_space

TINY = dict(stem=4, channels=(8, 12), blocks=(1, 2))


@pytest.mark.parametrize('spec', ['small', 'large', 'large-3.8g', TINY, dict(stem=3, channels=[10], blocks=[1])])
def test_it_keeps_the_contract(spec):
    check_search_space(DetNASSpace(spec))


@pytest.mark.parametrize(
    ('name', 'size', 'depths', 'stem', 'channels', 'last'),
    [
        ('small', 4**20, (4, 4, 8, 4), 16, (64, 160, 320, 640), 1024),
        ('large', 4**40, (8, 8, 16, 8), 48, (96, 240, 480, 960), 1024),
        ('large-3.8g', 4**40, (8, 8, 16, 8), 72, (172, 432, 864, 1728), 1728),
    ],
)
def test_presets_are_the_papers(name, size, depths, stem, channels, last):
    space = DetNASSpace(name)
    assert (space.size, space.depths, space.stem, space.channels) == (size, depths, stem, channels)
    assert space.last_channels == last and space.num_blocks == sum(depths) and space.name == name
    assert [b.index for b in space.blocks if b.stride == 2] == np.cumsum((0, *depths[:-1])).tolist()
    assert space.stem_conv == Conv(3, stem, 3, 2, bias=True)


def test_a_space_can_be_made_from_its_own_spec_or_itself():
    for space in (DetNASSpace('small'), DetNASSpace(TINY)):
        for again in (DetNASSpace(space.spec()), DetNASSpace(space)):
            assert again.spec() == space.spec() and again.name == space.name
    assert DetNASSpace(TINY).name == 'custom' and "'custom'" in repr(DetNASSpace(TINY))
    assert DetNASSpace(dict(stem=16, channels=[64, 160, 320, 640], blocks=[4, 4, 8, 4])).name == 'small'


def test_blocks_and_their_branches():
    first, second, third = DetNASSpace(TINY).blocks
    assert (first.cin, first.cout, first.stride, first.mid, first.main_channels) == (4, 8, 2, 4, (4, 4))
    assert (second.cin, second.cout, second.stride, second.stage) == (8, 12, 2, 1)
    assert (third.cin, third.cout, third.stride, third.main_channels) == (12, 12, 1, (6, 6))


@pytest.mark.parametrize('choice', range(4))
def test_convolutions_of_a_choice(choice):
    # Reference: shuffle is 1x1, depthwise kxk, 1x1; Xception three pairs of depthwise 3x3 and 1x1; at stride 2 the
    # projection has the block's kernel.
    space = DetNASSpace(TINY)
    kernel = int(OPS[choice][-1])
    for block in space.blocks:
        main, proj = space.convs(block, choice)
        cin, cout = block.main_channels
        assert main[0].cin == cin and main[-1].cout == cout
        assert all(not conv.bias for conv in (*main, *proj))
        assert [a.cout for a in main[:-1]] == [b.cin for b in main[1:]]
        depthwise = [conv for conv in main if conv.groups > 1]
        assert [conv.kernel for conv in depthwise] == ([3, 3, 3] if choice == 3 else [kernel])
        assert all(conv.groups == conv.cin == conv.cout for conv in depthwise)
        assert [conv.stride for conv in depthwise] == [block.stride, 1, 1][: len(depthwise)]
        assert all(conv.kernel == conv.stride == 1 for conv in main if conv.groups == 1)
        if block.stride == 1:
            assert proj == ()
        else:
            c = block.cin
            assert proj == (Conv(c, c, kernel, 2, groups=c), Conv(c, c))


def test_draws_are_uniform():
    space = DetNASSpace('small')
    counts = np.apply_along_axis(np.bincount, 0, space.sample_ids(np.random.default_rng(0), 4000), minlength=4)
    # 1,000 expected, standard deviation 27
    assert counts.shape == (4, 20) and abs(counts - 1000).max() < 120


def test_mutation_redraws_each_gene_with_the_given_probability():
    space = DetNASSpace('large')
    parent = space.parse([0] * 40)
    rng = np.random.default_rng(0)
    changed = np.mean([np.count_nonzero(space.mutate(parent, rng, 0.1).genes) for _ in range(2000)])
    assert changed == pytest.approx(40 * 0.1 * 0.75, abs=0.15)  # a quarter of the redraws give the old operation


def test_crossover_takes_every_gene_from_either_parent():
    space = DetNASSpace('large')
    first, second = space.parse([0] * 40), space.parse([3] * 40)
    rng = np.random.default_rng(0)
    children = np.array([space.crossover(first, second, rng).genes for _ in range(500)])
    assert set(np.unique(children)) == {0, 3}
    assert abs((children == 3).mean(axis=0) - 0.5).max() < 0.12  # standard deviation 0.022


def test_text_form():
    space = DetNASSpace('small')
    text = '2120|2112|33130031|3132'
    arch = space.parse(text)
    assert space.describe(arch) == text
    assert arch == space.parse('21202112331300313132') == space.parse(' 2120 | 2112|33130031 |3132\n')
    assert arch == space.parse(np.array(arch.genes)) == space.parse(list(arch.genes))


@pytest.mark.parametrize(
    ('value', 'match'),
    [
        ('2120|2112|33130031|313', r'stages of \(4, 4, 8, 3\) blocks; this space has \(4, 4, 8, 4\)'),
        ('2120|2112|33130031', r'stages of \(4, 4, 8\) blocks'),
        ('212|02112|33130031|3132', r'stages of \(3, 5, 8, 4\) blocks'),
        ('2120211233130031313', r'has 19 blocks; this space has 20 \(4\+4\+8\+4\)'),
        ('2120|2112|33140031|3132', r'Block 11 of .* is 4; allowed are 0 \(shuffle_3x3\), .*3 \(xception_3x3\)'),
        ('2120|2112|3313x031|3132', 'Cannot read .* write one digit per block'),
        ('', 'Cannot read'),
        ('٢' * 20, 'Cannot read'),
        ([0] * 21, 'has 21 blocks'),
        ([0] * 19 + [-1], 'Block 19 .* is -1'),
        ([0] * 19 + [True], 'Block 19 .* is True'),
        ([0] * 19 + [1.0], 'Block 19 .* is 1.0'),
        ([0] * 19 + ['1'], "Block 19 .* is '1'"),
        (np.zeros((20, 2), int), 'Block 0'),
        (Architecture((0, 1)), 'has 2 blocks'),
        (7, 'of type int'),
        (None, 'of type NoneType'),
    ],
)
def test_parse_refuses(value, match):
    with pytest.raises(ValueError, match=match):
        DetNASSpace('small').parse(value)


@pytest.mark.parametrize(
    ('space', 'match'),
    [
        ('medium', r"Unknown DetNAS space 'medium'. Choose one of \['large', 'large-3.8g', 'small'\]"),
        (None, 'or dict'),
        (3, 'got 3'),
        (dict(stem=4, channels=(8,)), r"missing: \['blocks'\]"),
        (dict(TINY, depth=3), r"unknown: \['depth'\]"),
        (dict(TINY, channels=()), "'channels' must be a sequence"),
        (dict(TINY, channels='812'), "'channels' must be a sequence"),
        (dict(TINY, blocks=3), "'blocks' must be a sequence"),
        (dict(TINY, blocks=(1, 2, 3)), '2 stages, blocks .* has 3'),
        (dict(TINY, blocks=(1, 0)), "'blocks' must be positive integers; got 0"),
        (dict(TINY, blocks=(1, 1.5)), "'blocks' must be positive integers; got 1.5"),
        (dict(TINY, stem=0), "'stem' must be positive integers; got 0"),
        (dict(TINY, stem=True), "'stem' must be positive integers; got True"),
        (dict(TINY, last='x'), "'last' must be positive integers; got 'x'"),
        (dict(TINY, channels=(8, 13)), 'must be even.*got 13'),
        (dict(TINY, channels=(8, 8)), 'must grow .* got 8 after 8'),
        (dict(TINY, channels=(4, 8)), 'must grow .* got 4 after 4'),
    ],
)
def test_spaces_that_make_no_sense_are_refused(space, match):
    with pytest.raises(ValueError, match=match):
        DetNASSpace(space)
