"""Codes of backbones: reading, printing, channels, edits and their order."""

import itertools

import numpy as np
import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.codes import (
    EXPANSION,
    RESNET18,
    RESNET50,
    BlockCode,
    edit,
    inserted_ones,
    insertions,
    random_code,
    removals,
    swaps,
)

E3 = '211-111111111-2111111-11112111'


def texts(codes):
    return [str(code) for code in codes]


@pytest.mark.parametrize('text', [RESNET18, RESNET50, E3, '1-21-21-12', '1', '2222'])
def test_codes_print_as_they_are_read(text):
    code = BlockCode.parse(text)
    assert str(code) == text and BlockCode.parse(code) is code and BlockCode.parse(str(code)) == code
    assert code.depth == sum(symbol != '-' for symbol in text) and code.doublings == text.count('2')


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('11-31-1', "'3' at position 4 is unknown"),
        ('11 -21', "' ' at position 3"),
        ('-11-21', "the '-' at position 1 makes a stage without a block"),
        ('11--21', "the '-' at position 4 makes"),
        ('11-21-', "the '-' at position 6 makes"),
        ('', "got ''"),
        (112, 'got 112'),
        (None, 'got None'),
        ('１1', "'１' at position 1"),
    ],
)
def test_ill_formed_codes_are_refused_with_the_position(text, match):
    with pytest.raises(DetNASError, match=match):
        BlockCode.parse(text)


def test_stages_are_checked_too():
    for stages in ((), ((1,), ()), ((1, 3),)):
        with pytest.raises(DetNASError, match='stages of at least one block'):
            BlockCode(stages)


def test_channels():
    assert BlockCode.parse(RESNET18).channels(64) == (64, 128, 256, 512)
    assert BlockCode.parse(RESNET50).channels(64, 'bottleneck') == (256, 512, 1024, 2048)
    assert BlockCode.parse(E3).channels(56, 'bottleneck') == (448, 448, 896, 1792)
    assert BlockCode.parse('12-1').widths(48) == ((48, 96), (96,))
    with pytest.raises(DetNASError, match="one of 'basic', 'bottleneck', 'resnext'; got 'wide'"):
        BlockCode.parse('1').channels(64, 'wide')
    for base in (49, 0, '64'):
        with pytest.raises(DetNASError, match=f'base must be .*got {base!r}'):
            BlockCode.parse('1').channels(base)


def test_edits_one_by_one():
    code = BlockCode.parse('12-1')
    assert texts(insertions(code)) == ['112-1', '112-1', '121-1', '12-11', '12-11']
    assert texts(removals(code)) == ['2-1']
    assert set(texts(swaps(code))) == {'21-1', '1-21'}
    assert set(texts(swaps(code, 2))) == {'21-1', '1-21', '11-2'}
    assert set(texts(swaps(BlockCode.parse('11-1'), 1))) == {'1-11'}, 'a border moves; no stage is left empty'
    assert removals(BlockCode.parse('1-2')) == [] and swaps(BlockCode.parse('11')) == []


def test_an_edit_changes_what_it_says_alone():
    rng, code = np.random.default_rng(0), BlockCode.parse(RESNET18)
    changes = set()
    for _ in range(400):
        before, code = code, edit(code, rng)
        assert code.doublings == 3 and len(code.stages) == 4
        changes.add(code.depth - before.depth)
        code = BlockCode.parse(RESNET18) if code.depth > 15 else code
    assert changes == {-1, 0, 1}
    lone = BlockCode.parse('2-2')
    assert {str(edit(lone, rng)) for _ in range(60)} == {'12-2', '21-2', '2-12', '2-21', '2-2'}


def test_edits_and_draws_are_functions_of_the_generator():
    for draw in (lambda rng: edit(BlockCode.parse(E3), rng), random_code):
        first, second = ([draw(rng) for _ in range(20)] for rng in (np.random.default_rng(3), np.random.default_rng(3)))
        assert first == second and len(set(first)) > 5


def test_random_codes():
    rng = np.random.default_rng(1)
    codes = [random_code(rng, (5, 9)) for _ in range(2000)]
    assert {code.depth for code in codes} == {5, 6, 7, 8, 9}
    assert {(code.doublings, len(code.stages)) for code in codes} == {(3, 4)}
    assert any(code.stages[0][0] == 2 for code in codes), 'the first block may double'
    # of 5 blocks: 10 choices of three that double times 4 of three borders among four places, equally likely
    small = [str(random_code(rng, (5, 5))) for _ in range(4000)]
    counts = np.unique(small, return_counts=True)[1]
    assert len(counts) == 40 and counts.min() > 60 and counts.max() < 150
    for depth in ((3, 9), (9, 5)):
        with pytest.raises(DetNASError, match='depth must be .* at least 4 for 4 stages and 3 doublings'):
            random_code(rng, depth)


def test_order_is_that_of_inserting_ones():
    """Against what insertions reach, over all codes of two stages up to five blocks."""
    codes = [
        BlockCode((first, second))
        for a, b in itertools.product((1, 2, 3), (1, 2))
        for first in itertools.product((1, 2), repeat=a)
        for second in itertools.product((1, 2), repeat=b)
    ]
    for x in codes:
        reached, level = {x}, {x}
        while level:
            level = {y for code in level for y in insertions(code) if y.depth <= 5}
            reached |= level
        assert {y for y in codes if inserted_ones(x, y)} == reached & set(codes)


def test_order_of_published_codes():
    def precedes(x, y):
        return inserted_ones(BlockCode.parse(x), BlockCode.parse(y))

    assert precedes(RESNET18, RESNET50) and not precedes(RESNET50, RESNET18)
    assert precedes(RESNET18, RESNET18)
    assert not precedes('1-21-21-12', '11-21-21-21') and not precedes('1-2', '1-2-1')
    assert set(EXPANSION) == {'basic', 'bottleneck', 'resnext'}
