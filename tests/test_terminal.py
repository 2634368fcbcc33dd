"""Terminal output of the tools: library reports go to the log file alone, and no silence is long."""

import contextlib
import io
import logging
import sys
import threading
import time

import pytest
from tqdm import tqdm

from detnas_mm import terminal

logging_ = pytest.importorskip('mmengine.logging')

#: What a training of a Digits supernet reports before its first iteration: module, level, text, how often.
REPORTS = [
    ('mmengine.config.config', 'INFO', 'Using env variable `DETNAS_DIGITS` with value of x to replace it.', 1),
    ('mmengine.runner.runner', 'INFO', '\n' + 60 * '-' + '\nSystem environment:' + 40 * '\n    GCC: gcc 12.2.0', 1),
    ('mmengine.runner.runner', 'INFO', 'Config:' + 190 * '\nauto_scale_lr = dict(base_batch_size=16)', 1),
    ('mmengine.runner.runner', 'INFO', 'Hooks will be executed in the following order:' + 110 * '\n(NORMAL) Hook', 1),
    ('mmengine.optim.optimizer.default_constructor', 'INFO', 'paramwise_options -- stem.weight:lr=0.01', 400),
    ('mmengine.model.base_module', 'INFO', 'load backbone. in model from: iter_60.pth', 1),
    ('mmdet.models.detectors.base', 'INFO', 'Something that mmdet logs.', 9),
    ('mmengine.runner.runner', 'INFO', 'Checkpoints will be saved to work_dirs.', 1),
]  # fmt: skip
SHOWN = [
    ('mmengine.runner.checkpoint', 'WARNING', 'The model and loaded state dict do not match exactly'),
    ('mmengine.runner.runner', 'ERROR', 'Something is wrong.'),
    ('mmengine.runner.runner', 'INFO', 'Load checkpoint from iter_60.pth'),
    ('detnas_mm.engine.hooks.path_sampling_hook', 'INFO', 'Paths are sampled by UniformPathSampler from seed 0.'),
    ('somebodys_hooks', 'INFO', 'A hook of their own.'),
]


def said_by(module, code, **names):
    """Runs code as that of a module."""
    exec(code, {'__name__': module, **names})


def log(logger, module, level, text):
    """By the logger itself, and by print_log, as the libraries do in turn."""
    level = getattr(logging, level)
    said_by(module, 'logger.log(level, text)', logger=logger, level=level, text=text)
    said_by(
        module, 'print_log(text, logger, level)', print_log=logging_.print_log, logger=logger, level=level, text=text
    )


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.delenv(terminal.VERBOSE, raising=False)
    monkeypatch.delenv('RANK', raising=False)


@contextlib.contextmanager
def screen():
    """Returns the output of both streams."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield out


def report(tmp_path, begun=False):
    """Uses loggers as a training does; returns the content of its log file."""
    early = logging_.MMLogger.get_instance('mmengine')
    terminal.follow(early)
    log(early, *REPORTS[0][:3])
    logger = logging_.MMLogger.get_instance('training', log_file=str(tmp_path / 'log.txt'))
    terminal.follow(logger)
    if begun:
        terminal.begun()
    for module, level, text, count in REPORTS[1:]:
        for _ in range(count):
            log(logger, module, level, text)
    for record in SHOWN:
        log(logger, *record)
    said_by('pycocotools.coco', "print('loading annotations into memory...')")
    said_by('somebodys_hooks', "print('printed by them')")
    return (tmp_path / 'log.txt').read_text()


def test_reports_of_the_libraries_go_to_the_log_file(tmp_path):
    with screen() as out, terminal.managed():
        file = report(tmp_path)
    shown = out.getvalue()
    assert len(shown.splitlines()) <= 30
    assert f'Log, with what mmengine and mmdet report at the start: {tmp_path / "log.txt"}' in shown.splitlines()[0]
    for _, _, text in SHOWN:
        assert text in shown and text in file
    assert 'printed by them' in shown
    for text in [text for _, _, text, _ in REPORTS] + ['loading annotations into memory...']:
        assert text not in shown and text in file
    assert file.count('paramwise_options') == 2 * 400


@pytest.mark.parametrize('how', ['verbose', 'begun', 'unmanaged'])
def test_everything_is_shown(tmp_path, monkeypatch, how):
    """If asked for, after the first iteration, and under another train script."""
    if how == 'verbose':
        monkeypatch.setenv(terminal.VERBOSE, '1')
    with screen() as out, contextlib.nullcontext() if how == 'unmanaged' else terminal.managed():
        report(tmp_path, begun=how == 'begun')
    shown = out.getvalue()
    assert shown.count('paramwise_options') == 2 * 400 and 'loading annotations' in shown and 'A hook' in shown
    assert ('Log, with' in shown) == (how != 'unmanaged')


def test_the_streams_are_put_back():
    with screen() as out:
        with terminal.managed(), terminal.managed():
            assert sys.stdout is not out and sys.stdout.getvalue() == ''  # of what it stands for
        assert sys.stdout is out and sys.stderr is out
    assert not any(thread.name == 'silence' and thread.is_alive() for thread in waited())


def waited():
    threads = threading.enumerate()
    for thread in threads:
        if thread.name == 'silence':
            thread.join(5)
    return threads


def test_a_silence_is_broken_by_what_is_being_done(monkeypatch):
    monkeypatch.setattr(terminal, 'EVERY', 0.05)
    with (
        screen() as out,
        terminal.managed(),
        terminal.doing('searching'),
        terminal.doing(lambda: 'reading, 3 of 7 batches'),
    ):
        time.sleep(0.4)
    lines = out.getvalue().splitlines()
    assert 2 <= len(lines) <= 8 and set(lines) == {'… reading, 3 of 7 batches (0:00 so far)'}


def test_a_process_without_work_leaves_the_terminal_to_others(monkeypatch):
    monkeypatch.setattr(terminal, 'EVERY', 0.05)
    lines = []
    watched = terminal.Terminal(lines.append, named_only=True)
    watched.start()
    time.sleep(0.3)
    assert lines == []
    with terminal.doing('searching'):
        time.sleep(0.3)
    watched.stop()
    assert set(lines) == {'… searching (0:00 so far)'}


def test_a_silence_without_a_name_is_loading_only_before_the_first_iteration():
    watched = terminal.Terminal(print)
    assert watched.line(time.monotonic()).startswith('… loading libraries and config (0:0')
    watched.setting_up = False
    assert watched.line(time.monotonic()).startswith('… working (0:0')


def test_no_line_is_added_while_something_is_shown(monkeypatch):
    monkeypatch.setattr(terminal, 'EVERY', 0.5)
    with screen() as out, terminal.managed():
        for _ in range(20):
            print('news')
            time.sleep(0.05)
    assert set(out.getvalue().splitlines()) == {'news'}


def test_an_open_bar_is_redrawn(monkeypatch):
    """And the line comes once, since five minutes have not passed."""
    monkeypatch.setattr(terminal, 'EVERY', 0.05)
    with screen() as out, terminal.managed(), terminal.doing('evaluating'), tqdm(total=9, desc='search', ncols=60):
        time.sleep(0.5)
    shown = out.getvalue()
    assert shown.count('… evaluating') == 1 and shown.count('search:') > 3


def test_a_line_does_not_end_in_a_bar():
    with screen() as out, terminal.managed(), tqdm(total=9, desc='search', ncols=60) as bar:
        print('generation', 1)
        bar.update(1)
        sys.stdout.write('a part')
        sys.stdout.write(' of a line\n')
    for line in ('generation 1', 'a part of a line'):
        before, _, after = out.getvalue().partition(line)
        assert before.endswith('\r') and after.startswith('\n')
