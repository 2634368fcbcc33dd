"""Structures as data: every form is read, bad ones are refused with the block and the rule, files are literals."""

import numpy as np
import pytest

from detnas_mm.spaces import Architecture
from detnas_mm.systems.mae_det import MAEDetSpace
from detnas_mm.systems.mae_det.structure import PUBLISHED, read_structure, to_dicts, to_text, unpack
from detnas_mm.systems.mae_det.structure_files import read_file, write_file

TEXT = '32k3s2|48k5s2x2b32|272k3s1x4b120'
DICTS = [
    {'class': 'ConvKXBNRELU', 'in': 3, 'out': 32, 's': 2, 'k': 3},
    {'class': 'SuperResK1KXK1', 'in': 32, 'out': 48, 's': 2, 'k': 5, 'L': 2, 'btn': 32},
    {'class': 'SuperResK1KXK1', 'in': 48, 'out': 272, 's': 1, 'k': 3, 'L': 4, 'btn': 120},
]
GENES = (32, 3, 2, 48, 5, 2, 2, 32, 272, 3, 1, 4, 120)


@pytest.mark.parametrize('value', [TEXT, DICTS, list(GENES), GENES, np.array(GENES), Architecture(GENES)])
def test_every_form_is_read(value):
    assert read_structure(value) == Architecture(GENES)


def test_the_class_that_super_blocks_are_made_of_may_be_named(tmp_path):
    """As the authors' search writes it."""
    dicts = [DICTS[0], *(block | dict(inner_class='ResK1KXK1') for block in DICTS[1:])]
    (tmp_path / 'best_structure.txt').write_text(repr(dict(best_structures=[dicts], space_arch='CnnNet')))
    assert read_file(tmp_path / 'best_structure.txt') == [read_structure(dicts)] == [Architecture(GENES)]
    assert to_dicts(read_structure(dicts)) == DICTS


def test_and_written():
    arch = Architecture(GENES)
    assert to_text(arch) == TEXT and to_dicts(arch) == DICTS
    stem, blocks = unpack(arch)
    assert stem == (32, 3, 2) and [b.cin for b in blocks] == [32, 48]


def changed(block, **values):
    return [{**d, **values} if i == block else d for i, d in enumerate(DICTS)]


@pytest.mark.parametrize(
    ('value', 'match'),
    [
        (changed(1, btn=0), 'Block 1 of .* has bottleneck=0; it must be an integer in 1–65536'),
        (changed(1, k=4), 'Block 1 of .* has kernel=4; kernels must be odd'),
        (changed(2, **{'in': 64}), 'Block 2 has in=64; the one before it gives 48'),
        (changed(2, **{'in': 48.0}), 'Block 2 has in=48.0; the one before it gives 48'),
        (changed(0, **{'in': 1}), 'The stem .* has in=1; images have 3 channels'),
        (changed(2, L=0), 'Block 2 of .* has depth=0'),
        (changed(2, L=1.0), 'Block 2 of .* has depth=1.0'),
        (changed(0, out=True), 'stem .* has out=True'),
        (changed(0, out='32'), "stem .* has out='32'"),
        (changed(1, s=3), 'Block 1 of .* has stride=3'),
        (changed(1, out=1 << 20), 'Block 1 of .* has out=1048576'),
        (changed(1, extra=1), r"Block 1 has \['extra'\]; its keys are class, in, out, k, s, L, btn. Got {"),
        (changed(0, inner_class='ResK1KXK1'), r"The stem .* has \['inner_class'\]; its keys are class, in, out, k, s"),
        (
            changed(2, inner_class='ResKXKX', extra=1),
            "Block 2 has inner_class 'ResKXKX', which .*inner_class ResK1KX",
        ),
        (changed(2, inner_class=None), 'Block 2 has inner_class None'),
        (changed(1, **{'class': 'SuperResK1DWSEK1', 'extra': 1}), "Block 1 has class 'SuperResK1DWSEK1', which belo"),
        (changed(0, **{'class': 'Conv3DKXBNRELU', 'kt': 1}), "stem .* has class 'Conv3DKXBNRELU', which belongs"),
        ([DICTS[0] | dict(nbitsA=8), DICTS[1], DICTS[0] | {'in': 48}], "Block 2 has class 'ConvKXBNRELU', which"),
        (DICTS[1:], "The stem .* has class 'SuperResK1KXK1'"),
        ([DICTS[0], {'class': 'SuperResK1KXK1', 'x': 1}], r"Block 1 lacks \['in', .*'btn'\] and has \['x'\]; its"),
        (DICTS[:1], 'has 3 genes'),
        ([{}], 'lacks'),
        (TEXT + '|', "Cannot read ''"),
        ('32k3s2|48k5s2x-2b32', 'Cannot read'),
        ('٣٢k3s2|48k5s2x2b32', 'Cannot read'),
        ('resnet50', 'maedet-s, maedet-m, maedet-l'),
        ('1' * 20_000, 'Cannot read'),
        (GENES[:-1], 'has 12 genes'),
        (list(GENES[:-1]) + [float('nan')], 'Block 2 of .* has bottleneck=nan'),
        ([], 'of type list'),
        (None, 'of type NoneType'),
    ],
)
def test_what_is_no_structure_is_refused(value, match):
    with pytest.raises(ValueError, match=match):
        read_structure(value)


def test_files_of_the_authors(tmp_path):
    archs = [read_structure(name) for name in PUBLISHED]
    write_file(tmp_path / 'all.txt', archs)
    assert read_file(tmp_path / 'all.txt') == archs
    (tmp_path / 'one.txt').write_text(repr(DICTS))
    assert read_file(tmp_path / 'one.txt') == [Architecture(GENES)]
    (tmp_path / 'one.txt').write_text('\ufeff' + repr(DICTS), encoding='utf-8')  # as Windows' editors save it
    assert read_file(tmp_path / 'one.txt') == [Architecture(GENES)]
    (tmp_path / 'one.txt').write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match='not a plain Python literal .*codec'):
        read_file(tmp_path / 'one.txt')


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('', r'file.txt is empty; expected a list of dicts or \{.best_structures'),
        (' \n\n', 'is empty'),
        ('-' * 500_000 + '1', 'not a plain Python literal'),
        ('9' * 500_000, 'not a plain Python literal'),
        ('\0', 'not a plain Python literal'),
        ('__import__("os").system("touch HOSTILE")', 'not a plain Python literal'),
        ('[' * 5000 + ']' * 5000, 'not a plain Python literal'),
        ('{"best_structures": []}', 'contains no structures'),
        ('{"best": 3}', 'contains no structures'),
        ('"maedet-s"', 'contains no structures'),
        (
            '{"best_structures": null, "a": [true]}',
            'JSON literals; true: write True, null: write None\\); expected a list of dicts',
        ),
        ("{'a': false, 'b': f()}", r'JSON literals; false: write False\)'),
        (repr([DICTS, changed(1, btn=0)]), 'Structure 1 of .*: Block 1 .* has bottleneck=0'),
        ('# ' + 'x' * (1 << 20), 'structure files have at most 1,048,576'),
    ],
)
def test_hostile_and_broken_files_are_refused(tmp_path, monkeypatch, text, match):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file.txt').write_text(text)
    with pytest.raises(ValueError, match=match):
        read_file(tmp_path / 'file.txt')
    assert not (tmp_path / 'HOSTILE').exists()


def test_published_nets_in_their_spaces():
    for name in ('maedet-s', 'maedet-m', 'maedet-l'):
        MAEDetSpace('relaxed').validate(read_structure(name))
    MAEDetSpace('authors').validate(read_structure('maedet-init'))
