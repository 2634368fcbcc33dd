"""Command line: accepted arguments, and one-line errors before torch is loaded."""

import argparse
import os
import sys

import pytest
from mmengine.config import Config, DictAction

from detnas_mm.cli import at_least_1, one_line_errors, override, parser, read_file
from detnas_mm.engine.config import read_config
from detnas_mm.errors import DetNASError
from detnas_mm.options import option_word, read_value
from detnas_mm.terminal import VERBOSE


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('a.json', '[1, 2]', r'a.json is not a config: it must have settings by name'),
        ('a.json', '{"a": ', r'a.json is not a config: Expecting value'),
        ('a.yaml', 'a: [', r'a.yaml is not a config: while parsing'),
        ('a.yaml', '- a', r'a.yaml is not a config: it must have'),
        ('a.txt', 'a = 1', r'a.txt is not a config: its name must end in .py'),
        ('a.py', 'a = 1\nb = (', r"a.py is not a config: line 2: '\(' was never closed"),
        ('heir.py', "_base_ = ['./b.py', './broken.py']", r'broken.py is not a config: line 1: invalid syntax'),
        ('a.py', 'a = 1\nb = nosuch', r"a.py cannot be read as a config: .*a.py, line 2: NameError: name 'nosuch' is"),
        ('heir.py', "_base_ = './bug.py'", r'heir.py cannot be read as a config: .*bug.py, line 1: ZeroDivisionError'),
        ('a.py', "custom_imports = dict(imports=['no_such_module'])", "config: .*No module named 'no_such_module'"),
        ('a.yaml', '_base_: ./nosuch.yaml', r"a.yaml inherits './nosuch.yaml', but there is no .*nosuch.yaml"),
        ('a.yaml', '_base_: ./a.yaml', r'a\.yaml inherits itself: .*a\.yaml inherits .*a\.yaml. Remove one of these'),
        ('c.yml', '_base_: [./heir.yaml]', r'inherits itself: .*c\.yml inherits .*heir\.yaml inherits .*c\.yml'),
        ('a.json', '{"_base_": ["./b.json", "./a.json"]}', r'a\.json inherits itself: .*a\.json inherits .*a\.json'),
        ('heir.py', "_base_ = './nosuch.py'", r"heir.py inherits './nosuch.py', but there is no .*nosuch.py"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line(tmp_path, name, text, message):
    (tmp_path / 'b.py').write_text('b = 1')
    (tmp_path / 'b.json').write_text('{}')
    (tmp_path / 'heir.yaml').write_text('_base_: ./c.yml')
    (tmp_path / 'broken.py').write_text('a = = 1')
    (tmp_path / 'bug.py').write_text('a = 1 / 0')
    (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit, match=f'^error: .*{message}.*$'):
        one_line_errors(lambda: read_file(parser('').parse_args([str(tmp_path / name)]).config))


@pytest.mark.parametrize(
    'name, text',
    [
        ('a.json', '{"_base_": "./b.json", "a": {{_base_.b}}}'),
        ('a.yaml', 'a: 1'),
        ('a.py', "_base_ = ['./b.py']\na = {{_base_.b}}"),
    ],
)
def test_a_config_that_can(tmp_path, name, text):
    (tmp_path / 'b.py').write_text('b = 1')
    (tmp_path / 'b.json').write_text('{"b": 1}')
    (tmp_path / name).write_text(text)
    assert read_file(parser('').parse_args([str(tmp_path / name)]).config).a == 1


@pytest.mark.parametrize('word', ['foo', '=1'])
def test_options_without_a_value_are_one_line(tmp_path, word):
    (tmp_path / 'a.py').touch()
    with pytest.raises(SystemExit, match=f"^error: --cfg-options needs KEY=VALUE, .*; got '{word}'"):
        parser('').parse_args([str(tmp_path / 'a.py'), '--cfg-options', 'a=1', word])
    args = parser('').parse_args([str(tmp_path / 'a.py'), '--cfg-options', 'a=1', 'b=x=y', '--cfg-options', 'c=[1,2]'])
    assert args.cfg_options == dict(a=1, b='x=y', c=[1, 2])


@pytest.mark.parametrize(
    'text, value',
    [
        ("dict(_delete_=True, type='A', n=5e6)", dict(_delete_=True, type='A', n=5e6)),
        ("[dict(cost='macs', high=-1.5), {'cost': 'a b', 'low': (1, 2)}]",
         [dict(cost='macs', high=-1.5), dict(cost='a b', low=(1, 2))]),
        ('dict()', {}),
    ],
)  # fmt: skip
def test_options_may_be_dicts_as_configs_have_them(tmp_path, text, value):
    (tmp_path / 'a.py').touch()
    args = parser('').parse_args([str(tmp_path / 'a.py'), '--cfg-options', f'a.b={text}'])
    assert args.cfg_options == {'a.b': value}


@pytest.mark.parametrize(
    'text, value',
    [
        ('/my runs/net.pth', '/my runs/net.pth'),
        (' a  b ', ' a  b '),
        ("it's (1)/{2}/[3", "it's (1)/{2}/[3"),
        ('(a) and (b)', '(a) and (b)'),
        ('f(1, 2)', 'f(1, 2)'),
        ('2120|2112', '2120|2112'),
        ("('traffic light','car')", ('traffic light', 'car')),
        ('(\'0\', "1", 2)', ('0', '1', 2)),
        ("[traffic light, 'a, b', \"it's\", None, true, 1e3]", ['traffic light', 'a, b', "it's", None, True, 1000.0]),
        ("traffic light, 'car, red'", ['traffic light', 'car, red']),
        ("'0'", '0'),
        ("'a, b'", 'a, b'),
        (r"'C:\new\test'", r'C:\new\test'),
        (r'"C:\new\test"', r'C:\new\test'),
        (r"'C:\my dir\'", 'C:\\my dir\\'),
        (r'C:\new\test', r'C:\new\test'),
        (r"""('D:\a\b', "C:\new, old")""", (r'D:\a\b', r'C:\new, old')),
        (r"dict(root='C:\new\test', n=1)", dict(root=r'C:\new\test', n=1)),
        (r"{'C:\new': [r'\x']}", {r'C:\new': [r'\x']}),
        ("'''it's \"so\", 1'''", 'it\'s "so", 1'),
        ("a='(0, 1)'", "a='(0, 1)'"),
        ("[('0',1), (b c)]", [('0', 1), ('b c',)]),
        ('(1,2),(3,4)', [(1, 2), (3, 4)]),
        ("[dict(a='x, y'), b c]", [dict(a='x, y'), 'b c']),
        ('(3)', (3,)),
        ('[1,2,]', [1, 2]),
        ('()', ()),
        ('', ''),
        ('-1.5', -1.5),
        ('2024_01', '2024_01'),
        ('007', '007'),
        ('0.5', 0.5),
        ('FALSE', False),
        ('None', None),
    ],
)
def test_a_value_is_taken_as_it_stands(text, value):
    assert repr(read_value(text)) == repr(value)


@pytest.mark.parametrize('text', ['1,2', '[a', "f(1, '2", '1, 2, 3', '(10, 20, 30)', '[[1, 2], [3, 4]]', 'a, b'])
def test_the_rest_is_read_as_mmengine_reads_it(text):
    try:
        expected = DictAction._parse_iterable(text)
    except AssertionError:
        expected = ValueError
    if expected is ValueError:
        with pytest.raises(ValueError, match='brackets of .* do not match. If it is text, put it in quotes'):
            read_value(text)
    else:
        assert read_value(text) == expected


@pytest.mark.parametrize(
    'text',
    [
        'a', 'my runs/a', '1', 'None', '[1]', '1,2', "it's", "'x'", 'dict(', '{a}, b', ' ', '', 'a,(', '\n',
        'C:\\new', 'C:\\a, b\\', "it's (1", 'a "b" (c', 'it\'s "1", 2',
    ],
)  # fmt: skip
def test_a_text_can_be_given_whatever_it_holds(text):
    key, _, value = option_word('a.b', text).partition('=')
    assert key == 'a.b' and read_value(value) == text
    assert (value == text) == (text in ('a', 'my runs/a', "it's", ' ', '', '\n', 'C:\\new', "it's (1", 'a "b" (c'))


def test_a_text_that_no_quotes_can_hold_is_refused():
    with pytest.raises(DetNASError, match='^a.b: .* has both kinds of quotes, so it cannot be given by --cfg-options'):
        option_word('a.b', "'''\",1")


@pytest.mark.parametrize(
    'text',
    ['dict(a', 'dict(a=b)', 'dict(1)', 'dict(a=print(1))', 'dict(**{})', '{**{}}', "{'a': f(1)}", '[1,2', '[1,(2]'],
)
def test_options_that_are_no_values_are_one_line(tmp_path, text):
    (tmp_path / 'a.py').touch()
    with pytest.raises(SystemExit, match='^error: --cfg-options: '):
        parser('').parse_args([str(tmp_path / 'a.py'), '--cfg-options', f'a={text}'])


def test_counts_are_read():
    assert at_least_1('12') == 12
    for text in ('0', '-1', '1.5', 'two', ''):
        with pytest.raises(argparse.ArgumentTypeError, match=f"at least 1; got '{text}'"):
            at_least_1(text)


def test_options_that_go_into_nothing_are_named():
    cfg = Config(dict(space=dict(space='authors'), constraints=[dict(cost='macs', high=1)]))
    for option, message in (
        ('space.space.widths', "space.space is 'authors', which has no 'widths'.*space.space._delete_=True"),
        ('constraints.3.high', r"constraints is \[\{'cost': 'macs', 'high': 1\}\], which has no '3'"),
        ('constraints.x.high', "constraints is .*, which has no 'x'. It has 1 entries"),
        ('constraints.0.high.x', "constraints.0.high is 1, which has no 'x'"),
    ):
        with pytest.raises(SystemExit, match=f'^error: --cfg-options {option}: {message}'):
            override(cfg, {'space.new': 1, option: [8]})
    override(cfg, None)
    override(cfg, {'space.space._delete_': True, 'space.space.widths': [8], 'constraints.0.high': 2, 'a.b': 3})
    assert cfg.space.space == dict(widths=[8]) and cfg.constraints[0].high == 2 and cfg.a.b == 3


def test_modules_that_an_option_names_are_imported(tmp_path, monkeypatch):
    (tmp_path / 'a.py').write_text('a = 1\n')
    (tmp_path / 'module_of_an_option.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))

    def read(name):
        words = [str(tmp_path / 'a.py'), '--cfg-options', f'custom_imports.imports=[{name}]']
        return read_config(parser('').parse_args(words))

    read('module_of_an_option')
    assert 'module_of_an_option' in sys.modules
    with pytest.raises(DetNASError, match="--cfg-options custom_imports: .*No module named 'no_such_module'"):
        read('no_such_module')


def test_verbose_shows_everything_in_this_process_and_in_those_it_starts(tmp_path, monkeypatch):
    monkeypatch.setenv(VERBOSE, '0')
    (tmp_path / 'a.py').write_text('')
    parser('').parse_args([str(tmp_path / 'a.py')])
    assert os.environ[VERBOSE] == '0'
    parser('').parse_args([str(tmp_path / 'a.py'), '--verbose'])
    assert os.environ[VERBOSE] == '1'
