"""The commands that tools end with can be typed, whatever the folder is called."""

import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip('torch')

from detnas_mm.cli import parser
from detnas_mm.engine.export import next_commands

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.mark.parametrize(
    'folder',
    ['plain', 'two words', "it's (1)", 'runs, 2', '"quoted", [1', "{a}'s, b\\", 'dict(a', '$HOME; `ls`', "'x'"],
)
def test_an_exported_net(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)  # relative: a path may begin with anything
    config, checkpoint = Path(folder, 'a.py'), Path(folder, 'a.pth')
    config.parent.mkdir()
    config.touch()
    test, retrain = next_commands(config, checkpoint)
    assert shlex.split(test)[2:] == ['python', 'tools/test.py', str(config), str(checkpoint)]
    python, tool, *words = shlex.split(retrain)[2:]
    assert (python, tool) == ('python', 'tools/train.py')
    args = parser('').parse_args(words)
    assert args.config == str(config) and args.cfg_options == dict(load_from=str(checkpoint))


def test_the_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.delitem(sys.modules, 'quickstart', raising=False)
    import quickstart

    plan = quickstart.Plan(str(tmp_path / 'two words'), 'retinanet', 0, quickstart.SMALLEST)
    plan.folder.mkdir()
    checkpoint = str(plan.folder / 'found' / 'iter_1.pth')
    net = dict(arch='1|1|21|3', fitness=0.5, test_mAP=0.5, checkpoint=checkpoint)
    quickstart.report(plan, {label: dict(net) for label in ('found', 'random', 'smallest')}, Path('x.png'), 1.0)
    (line,) = re.findall('^.*DETNAS_DIGITS=.*$', capsys.readouterr().out, re.MULTILINE)
    words = shlex.split(line)
    assert words[0] == f'DETNAS_DIGITS={plan.digits}' and words[1] == sys.executable
    assert words[2:3] + words[4:] == [
        str(TOOLS / 'test.py'), checkpoint, '--cfg-options', 'model.backbone.arch=1|1|21|3',
    ]  # fmt: skip
    assert Path(words[3]).is_file()
