"""Inheritance between configs with ``_base_`` and new-style ones; errors in one line before anything is loaded."""

import shlex
import subprocess
import sys

import pytest
from mmengine.config import Config

from detnas_mm.cli import parser
from detnas_mm.config_styles import check_styles
from tests.digits import CONFIGS

READ = 'from mmengine.config import read_base\nwith read_base():\n    from {} import *\n'
NET = CONFIGS / 'detnas-digits_net_retinanet.py'


@pytest.fixture
def folder(tmp_path):
    texts = dict(
        old=f'_base_ = {str(NET)!r}\n',
        new='from mmdet.models import RetinaNet\nmodel = dict(type=RetinaNet)\n',
        plain='import os\nmodel = dict(type="RetinaNet")\n',
        heir=READ.format('.new') + 'model.update(neck=None)\n',
        heir_of_plain=READ.format('.plain'),
        dash=READ.format('.detnas-digits_net'),
        package=READ.format('detnas_mm.configs.digits.net'),
        nowhere=READ.format('.other.nowhere'),
        new_of_old=READ.format('.old'),
        heir_of_new_of_old=READ.format('.new_of_old'),
        old_of_new="_base_ = ['./plain.py', './heir.py']\n",
        both=f'from mmdet.models import RetinaNet\n_base_ = {str(NET)!r}\n',
        old_with_classes=f'_base_ = {str(NET)!r}\nfrom mmdet.models import RetinaNet\nmodel = dict(type=RetinaNet)\n',
    )
    for name, text in texts.items():
        (tmp_path / f'{name}.py').write_text(text)
    return tmp_path


@pytest.mark.parametrize('name', ['old', 'new', 'plain', 'heir', 'heir_of_plain', 'old_with_classes'])
def test_what_mmengine_reads_is_read(folder, name):
    check_styles(folder / f'{name}.py')
    Config.fromfile(folder / f'{name}.py')


@pytest.mark.parametrize(
    'name, message',
    [
        (
            'dash',
            r'dash.py imports .detnas-digits_net in line 3, which is not a valid name of a Python module. Flatten it',
        ),
        ('package', 'package.py inherits detnas_mm.configs.digits.net: detnas_mm has no new-style configs. Flatten it'),
        ('nowhere', 'nowhere.py inherits .other.nowhere, but there is no .*other/nowhere.py'),
        ('new_of_old', 'new_of_old.py is a new-style config and inherits .*old.py, which has _base_: .*Flatten it: py'),
        ('heir_of_new_of_old', 'new_of_old.py is a new-style config and inherits'),
        ('old_of_new', r'old_of_new.py inherits .*heir.py by _base_, but that is a new-style config \(line 1\)'),
        ('both', 'both.py has _base_, but line 1 makes it a new-style config'),
    ],
)
def test_other_chains_are_refused_in_one_line(folder, name, message):
    with pytest.raises(SystemExit, match=f'^error: .*{message}') as refused:
        parser('').parse_args([str(folder / f'{name}.py')])
    assert '\n' not in str(refused.value)
    with pytest.raises(Exception):  # noqa: B017
        Config.fromfile(folder / f'{name}.py')


def test_the_flattened_config_can_be_inherited(folder):
    """Uses the command that the error prints."""
    with pytest.raises(ValueError) as refused:
        check_styles(folder / 'new_of_old.py')
    command = str(refused.value).partition('Flatten it: ')[2].partition('; then')[0]
    python, *words = shlex.split(command)
    assert python == 'python'
    subprocess.run([sys.executable, *words], cwd=folder, check=True, capture_output=True)
    (folder / 'mine.py').write_text(READ.format('.flat') + 'model.neck.update(num_outs=7)\n')
    check_styles(folder / 'mine.py')
    cfg, plain = Config.fromfile(folder / 'mine.py'), Config.fromfile(NET)
    assert cfg.model.neck.num_outs == 7 and cfg.model.backbone == plain.model.backbone


@pytest.mark.parametrize('text', ["_base_ = './{}.py'\n", READ.replace('{}', '.{}')])
def test_a_config_that_inherits_itself_is_named(tmp_path, text):
    for name, base in (('a', 'b'), ('b', 'a')):
        (tmp_path / f'{name}.py').write_text(text.format(base))
    with pytest.raises(ValueError, match=r'a\.py inherits itself: .*a\.py inherits .*b\.py inherits .*a\.py'):
        check_styles(tmp_path / 'a.py')
