"""``--resume`` as cluster scripts use it: always, whether there is something to resume or not."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from detnas_mm.engine.resume import last_checkpoint, resume, resume_as_written
from detnas_mm.errors import DetNASError
from tests import digits


def job(work_dir, **more):
    return Config(dict(work_dir=str(work_dir), resume=False, **more))


@pytest.mark.parametrize('exists', [True, False])
def test_where_nothing_is_to_be_resumed_it_begins_as_ever(tmp_path, capsys, exists):
    folder = tmp_path / 'work'
    if exists:
        folder.mkdir()
    cfg = job(folder, load_from='net.pth')
    resume(cfg)
    assert cfg.load_from == 'net.pth' and not cfg.resume
    assert f'There is no checkpoint in {folder}; starting from net.pth.' in capsys.readouterr().out
    for cfg in (job(folder), job(folder, load_from=None)):
        resume(cfg)
        assert cfg.get('load_from') is None and not cfg.resume
        assert f'There is no checkpoint in {folder}; training begins from the start.' in capsys.readouterr().out


def saved(path, **more):
    """A checkpoint of a training; with ``meta={}`` of weights alone."""
    meta = dict(epoch=1, iter=4)
    torch.save(dict(state_dict={'a': torch.zeros(9)}, meta=meta, message_hub={}, optimizer={}) | more, path)
    return str(path)


def test_a_last_checkpoint_is_resumed_and_a_given_one_too(tmp_path, capsys):
    path, other = saved(tmp_path / 'iter_4.pth'), saved(tmp_path / 'other.pth')
    for named in (path, 's3://bucket/iter_4.pth'):
        (tmp_path / 'last_checkpoint').write_text(named)
        cfg = job(tmp_path)
        resume(cfg)
        assert cfg.load_from == named and cfg.resume and not capsys.readouterr().out
        cfg = job(tmp_path, load_from='net.pth')
        resume(cfg)
        assert cfg.load_from == named and f'Resuming from {named}; net.pth is not loaded' in capsys.readouterr().out
        resume(cfg, other)
        assert cfg.load_from == other and cfg.resume and capsys.readouterr().out


@pytest.mark.parametrize('named', ['/nowhere/iter_4.pth', '../work/iter_4.pth'])
def test_in_a_moved_work_dir_the_file_of_that_name_is_taken(tmp_path, named):
    (tmp_path / 'last_checkpoint').write_text(f'{named}\n')
    with pytest.raises(DetNASError, match=f'^there is no checkpoint {named}. .* has no other .*: --resume CHECKP'):
        resume(job(tmp_path, load_from='net.pth'))
    cfg = job(tmp_path, load_from='net.pth')
    path = saved(tmp_path / 'iter_4.pth')
    resume(cfg)
    assert cfg.load_from == path and cfg.resume


def test_in_a_copy_of_a_work_dir_its_own_file_is_taken(tmp_path):
    (tmp_path / 'copy').mkdir()
    (tmp_path / 'copy' / 'last_checkpoint').write_text(saved(tmp_path / 'iter_4.pth'))
    assert last_checkpoint(tmp_path / 'copy') == str(tmp_path / 'iter_4.pth')  # the file was not copied
    assert last_checkpoint(tmp_path / 'copy') != saved(tmp_path / 'copy' / 'iter_4.pth')
    assert last_checkpoint(tmp_path / 'copy') == str(tmp_path / 'copy' / 'iter_4.pth')


@pytest.mark.parametrize('damage', ['cut', 'empty', 'gone', 'weights', 'note'])
def test_where_the_last_one_is_damaged_the_one_before_is_taken(tmp_path, capsys, damage):
    before, last = saved(tmp_path / 'iter_9.pth'), Path(saved(tmp_path / 'iter_10.pth'))
    (tmp_path / 'last_checkpoint').write_text('' if damage == 'note' else str(last))
    content = last.read_bytes()
    if damage == 'gone':
        last.unlink()
    elif damage == 'weights':
        saved(last, meta={})
    else:
        last.write_bytes(content[: len(content) // 2 if damage == 'cut' else 0])
    Path(saved(tmp_path / 'best_mAP_iter_99.pth')).write_bytes(content)
    cfg = job(tmp_path, load_from='net.pth')
    resume(cfg)
    said = capsys.readouterr().out
    assert cfg.load_from == before and f'Resuming from {before} instead.' in said
    assert (str(last) if damage != 'note' else 'last_checkpoint is empty') in said
    Path(before).write_bytes(b'')
    if damage != 'note':
        with pytest.raises(DetNASError, match='iter_10.pth.* has no other checkpoint that can be resumed'):
            resume(cfg)


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'there is no checkpoint .*given.pth'),
        (b'<html>', 'given.pth is not a checkpoint: it is text that begins with'),
        ('weights', 'given.pth has weights but no training state: use it as load_from'),
    ],
)
def test_a_given_checkpoint_that_cannot_be_resumed_from_is_one_line(tmp_path, content, message):
    if content == 'weights':
        saved(tmp_path / 'given.pth', meta={})
    elif content:
        (tmp_path / 'given.pth').write_bytes(content)
    with pytest.raises(DetNASError, match=f'^--resume: .*{message}'):
        resume(job(tmp_path), str(tmp_path / 'given.pth'))


def test_resume_in_a_config_never_drops_weights(tmp_path, capsys):
    """Of another training they are resumed from, as by mmengine; weights alone are where the training begins."""
    weights, other = saved(tmp_path / 'net.pth', meta={}), saved(tmp_path / 'other.pth')
    for load_from, resumed in ((weights, False), (other, True), (None, False)):
        cfg = Config(dict(work_dir=str(tmp_path / 'work'), resume=True, load_from=load_from))
        resume_as_written(cfg)
        assert (cfg.load_from, cfg.resume) == (load_from, resumed)
    assert 'starting from' in capsys.readouterr().out
    (tmp_path / 'last_checkpoint').write_text(other)
    cfg = Config(dict(work_dir=str(tmp_path), resume=True, load_from=weights))
    resume_as_written(cfg)
    assert (cfg.load_from, cfg.resume) == (other, True)
    cfg = Config(dict(work_dir=str(tmp_path), resume=True, load_from=weights, train_cfg=dict(max_epochs=0)))
    resume_as_written(cfg)  # a search
    assert (cfg.load_from, cfg.resume) == (weights, False)


def test_under_another_train_script_our_hooks_look_for_the_checkpoint(digits_folder, tmp_path):
    """Mmdet's sets resume=True and load_from=None; mmengine would fail, or start without a message."""

    def runner(folder, steps):
        cfg = digits.config(
            'detnas-digits_supernet_cls', folder, train_cfg__max_iters=steps, default_hooks__checkpoint__interval=1,
            resume=True,
        )  # fmt: skip
        cfg.log_level = 'WARNING'
        return Runner.from_cfg(cfg)

    runner(tmp_path / 'a', 1).train()
    (log,) = (tmp_path / 'a').glob('*/*.log')
    assert 'WARNING - There is no checkpoint in' in log.read_text()
    (tmp_path / 'a').rename(tmp_path / 'b')
    resumed, begin = runner(tmp_path / 'b', 2), Begin()
    resumed.register_hook(begin, priority='LOWEST')
    resumed.train()
    assert begin.step == 1


class Begin(Hook):
    """Notes at which iteration a training begins, and with which weights."""

    def before_train(self, runner):
        self.step = runner.iter
        self.weights = {key: value.clone() for key, value in runner.model.state_dict().items()}


def train(work_dir, steps, load_from=None):
    cfg = digits.config(
        'detnas-digits_net_cls', work_dir, train_cfg__max_iters=steps, default_hooks__checkpoint__interval=1
    )
    cfg.load_from = load_from
    resume(cfg)
    runner, begin = Runner.from_cfg(cfg), Begin()
    runner.register_hook(begin, priority='LOWEST')
    runner.train()
    return begin


def test_the_same_command_starts_moves_and_resumes_a_training(digits_folder, tmp_path):
    first = train(tmp_path / 'a', 2)
    assert first.step == 0
    loaded = train(tmp_path / 'b', 1, str(tmp_path / 'a' / 'iter_2.pth'))
    expected = torch.load(tmp_path / 'a' / 'iter_2.pth', weights_only=False)['state_dict']
    assert loaded.step == 0 and all(torch.equal(loaded.weights[key], value) for key, value in expected.items())
    (tmp_path / 'b').rename(tmp_path / 'moved')
    expected = torch.load(tmp_path / 'moved' / 'iter_1.pth', weights_only=False)['state_dict']
    resumed = train(tmp_path / 'moved', 2, str(tmp_path / 'a' / 'iter_2.pth'))
    assert resumed.step == 1 and all(torch.equal(resumed.weights[key], value) for key, value in expected.items())


def test_a_folder_that_has_lost_its_note_is_resumed_all_the_same(tmp_path, capsys):
    saved(tmp_path / 'iter_2.pth')
    newer = saved(tmp_path / 'iter_4.pth')
    assert last_checkpoint(tmp_path) == newer
    assert f'last_checkpoint is not there. Resuming from {newer} instead.' in capsys.readouterr().out
    (tmp_path / 'last_checkpoint').write_bytes(b'\xff\xfe')  # no text
    assert last_checkpoint(tmp_path) == newer
