"""The commands that tools end with can be typed, whatever the folder is called."""

import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip('torch')

from mmengine.config import Config

from detnas_mm.cli import parser, typed
from detnas_mm.engine.export import next_commands
from detnas_mm.engine.next_steps import after_training

TOOLS = Path(__file__).parents[2] / 'tools'
FOLDERS = ['plain', 'two words', "it's (1)", 'runs, 2', '"quoted", [1', "{a}'s, b\\", 'dict(a', '$HOME; `ls`', "'x'"]
TRAINED = 'train_dataloader = dict(batch_size=1)\ntrain_cfg = dict(max_iters=9)\n'
TESTED = 'test_dataloader = dict(batch_size=1)\n'


def exported(folder, text, *kinds):
    """Files of an exported net; its config holds the text."""
    names = dict(config='a.py', checkpoint='a.pth', search_val='a_search_val.py')
    files = {kind: Path(folder, names[kind]) for kind in ('config', *kinds)}
    files['config'].parent.mkdir(exist_ok=True)
    files['config'].write_text(text)
    return files


def read(line):
    """Label and words of a printed command."""
    label, _, command = line.partition(': ')
    return label, shlex.split(command)


@pytest.mark.parametrize('folder', FOLDERS)
def test_an_exported_net(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)  # relative: a path may begin with anything
    files = exported(folder, TRAINED + TESTED, 'checkpoint', 'search_val')
    rescore, test, retrain = next_commands(files)
    config, checkpoint, search_val = (str(tmp_path / files[key]) for key in ('config', 'checkpoint', 'search_val'))
    again = ['python', str(TOOLS / 'test.py')]
    assert read(rescore) == ('Re-score it on search-val', [*again, search_val, checkpoint])
    assert read(test) == ('Test it', [*again, config, checkpoint])
    label, (python, tool, *words) = read(retrain)
    assert (label, python, tool) == ('Train it further, from these weights', 'python', str(TOOLS / 'train.py'))
    args = parser('').parse_args(words)
    assert args.config == config and args.cfg_options == dict(load_from=checkpoint)


@pytest.mark.parametrize('folder', FOLDERS)
def test_an_exported_net_without_weights(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    files = exported(folder, TRAINED + TESTED)
    (train,) = next_commands(files)
    label, (python, tool, *words) = read(train)
    assert (label, python, tool) == ('Train it', 'python', str(TOOLS / 'train.py'))
    args = parser('').parse_args(words)
    assert args.config == str(tmp_path / files['config']) and not args.cfg_options


@pytest.mark.parametrize(
    ('text', 'kinds', 'labels'),
    [
        (
            TRAINED,
            ('checkpoint', 'search_val'),
            ['Re-score it', '{} has no test set: name', 'Train it further'],
        ),
        (TRAINED, ('checkpoint',), ['{} has no test set: name a training config', 'Train it further']),
        (TRAINED.replace('9', '0') + TESTED, ('checkpoint',), ['Test it', '{} trains for no epoch: name a training']),
        (TRAINED.replace('9', '0') + TESTED, (), ['{} trains for no epoch: name a training config']),
        (TRAINED.replace('max_iters=9', 'max_epochs=12') + TESTED, (), ['Train it']),
        (TRAINED.partition('train_cfg')[0], (), ['{} trains for no epoch']),
        ('model = dict(backbone=dict())', (), ['Its backbone, for any config: {}']),
    ],
)
def test_a_command_that_cannot_run_is_not_printed(tmp_path, text, kinds, labels):
    """A line says why, and what to name instead."""
    files = exported(tmp_path, text, *kinds)
    lines = next_commands(files)
    assert len(lines) == len(labels)
    for line, label in zip(lines, labels, strict=True):
        assert line.startswith(label.format(files['config']))
        assert ('python ' in line) == (not label.startswith(('{}', 'Its backbone')))


def test_files_are_named_by_their_whole_path(tmp_path, monkeypatch):
    """So that a command can be typed in any folder; words that are no paths stay as they are."""
    for folder in (TOOLS.parent, tmp_path):
        monkeypatch.chdir(folder)
        words = ['python', str(TOOLS / 'search.py'), str(folder / 'a b'), 'a b', '1']
        assert typed('search.py', Path('a b'), 'a b', 1) == shlex.join(words)


def test_they_run_in_an_environment_that_is_not_activated(tmp_path, monkeypatch):
    """The interpreter is named by its path if ``python`` is nothing, or another one."""
    for programs in ([], ['python']):
        for name in programs:
            (tmp_path / name).write_text('#!/bin/sh\n')
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv('PATH', str(tmp_path))
        assert shlex.split(typed('test.py', 'a'))[0] == sys.executable
    monkeypatch.setenv('PATH', str(Path(sys.executable).parent))
    assert shlex.split(typed('test.py', 'a'))[0] == 'python'
    assert shlex.split(typed('dist_train.sh', 'a', 8)) == ['bash', str(TOOLS / 'dist_train.sh'), 'a', '8']


@pytest.mark.parametrize('folder', FOLDERS)
def test_what_follows_a_training(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    work_dir, configs = Path(folder), TOOLS.parent / 'configs' / 'digits'
    assert after_training(Config(dict(work_dir=folder))) == []  # no checkpoint
    work_dir.mkdir()
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_9.pth'))
    checkpoint = str(tmp_path / folder / 'iter_9.pth')

    def lines(name, **settings):
        cfg = Config(dict(work_dir=folder, **settings), filename=str(configs / f'{name}.py'))
        first, *others = after_training(cfg)
        assert first == f'Trained: {work_dir / "iter_9.pth"}'
        return [read(line) for line in others]

    config = str(configs / 'detnas-digits_net_cls.py')
    command = ['python', str(TOOLS / 'test.py'), config, checkpoint]
    assert lines('detnas-digits_net_cls', test_dataloader=dict()) == [('Test it', command)]
    search, *detectors = lines('detnas-digits_supernet_cls')
    searching = [str(TOOLS / 'search.py'), str(configs / 'detnas-digits_search_cls.py'), checkpoint]
    assert search == ('Search in it', ['python', *searching])
    (search,) = lines('nats-digits_supernet-paths_retinanet')  # its search has another name, and inherits from it
    searching[1] = str(configs / 'nats-digits_search-evolution_retinanet.py')
    assert search == ('Search in it', ['python', *searching])
    assert [Path(words[2]).stem for _, words in detectors] == [
        'detnas-digits_supernet_fpn', 'detnas-digits_supernet_retinanet',
    ]  # fmt: skip
    for label, (_, _, *words) in detectors:
        if '--cfg-options' in words:  # not where the folder has both kinds of quotes
            options = parser('').parse_args(words).cfg_options
            assert options['model.backbone.init_cfg.checkpoint'] == checkpoint
        assert label == 'Train a supernet of detectors from it'
    assert lines('maedet-digits_s_retinanet') == []


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
