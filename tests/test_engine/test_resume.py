"""``--resume`` as a cluster types it: always, whether there is something to resume or not."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from detnas_mm.engine.resume import resume
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


def test_a_last_checkpoint_is_resumed_as_ever_and_a_given_one_too(tmp_path, capsys):
    (tmp_path / 'iter_4.pth').touch()
    for named in (tmp_path / 'iter_4.pth', 's3://bucket/iter_4.pth'):
        (tmp_path / 'last_checkpoint').write_text(str(named))
        cfg = job(tmp_path, load_from='net.pth')
        resume(cfg)
        assert cfg.load_from is None and cfg.resume
        resume(cfg, 'other.pth')
        assert cfg.load_from == 'other.pth' and cfg.resume
    assert not capsys.readouterr().out


@pytest.mark.parametrize('named', ['/nowhere/iter_4.pth', '../work/iter_4.pth', ''])
def test_in_a_moved_work_dir_the_file_of_that_name_is_taken(tmp_path, named):
    (tmp_path / 'last_checkpoint').write_text(f'{named}\n')
    with pytest.raises(SystemExit, match=f"^error: .*last_checkpoint names the checkpoint '{named}', which is not"):
        resume(job(tmp_path, load_from='net.pth'))
    (tmp_path / 'iter_4.pth').touch()
    if named:
        cfg = job(tmp_path, load_from='net.pth')
        resume(cfg)
        assert cfg.load_from == str(tmp_path / 'iter_4.pth') and cfg.resume


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
