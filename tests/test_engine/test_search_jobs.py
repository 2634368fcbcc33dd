"""Searches as users start them: by the tools, killed for real, on several ranks."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from detnas_mm.errors import DetNASError
from detnas_mm.search.record import VOLATILE
from tests import digits
from tests.judge import unrounded_test

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CONFIG = digits.CONFIGS / 'detnas-digits_search_retinanet.py'
OPTIONS = [
    'search.strategy.population=4', 'search.strategy.mutation=2', 'search.strategy.crossover=2',
    'search.budget.generations=2', 'search.evaluator.calibration.num_images=40', 'search.export.top_k=2',
    'model.test_cfg.score_thr=0.001',
]  # fmt: skip


def command(checkpoint, work_dir, *more):
    return [
        sys.executable, '-W', 'ignore', str(ROOT / 'tools' / 'search.py'), str(CONFIG), str(checkpoint),
        '--work-dir', str(work_dir), '--cfg-options', *OPTIONS, *more,
    ]  # fmt: skip


def run(arguments, **kwargs):
    environment = os.environ | {'OMP_NUM_THREADS': '1'} | kwargs.pop('env', {})
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, **kwargs)


def rows(work_dir):
    lines = (Path(work_dir) / 'ledger.jsonl').read_bytes().splitlines()[1:]
    return [{k: v for k, v in json.loads(line).items() if k not in VOLATILE} for line in lines]


def sampler(work_dir):
    """Returns the path sampling of the supernet, from the ledger."""
    return json.loads((Path(work_dir) / 'ledger.jsonl').read_bytes().splitlines()[0])['environment']['sampler']


@pytest.fixture(scope='module')
def finished(retinanet_supernet, tmp_path_factory):
    """Runs an uninterrupted search; returns its folder and output."""
    folder = tmp_path_factory.mktemp('finished') / "it's [my] runs, {2}"
    done = run(command(retinanet_supernet, folder))
    assert done.returncode == 0, done.stderr[-3000:]
    shown = done.stdout.partition('generation 1/')[0] + done.stderr.partition('search:')[0]
    assert 3 <= len(shown.splitlines()) <= 30, shown  # the rest is in the log file
    (log,) = re.findall(r'Log, with .*: (/.*\.log)\n', shown)
    assert 'Hooks will be executed' in Path(log).read_text()
    return folder, done.stdout + done.stderr


def test_the_output_folder(finished):
    folder, output = finished
    assert sampler(folder) == 'UniformPathSampler from seed 0'
    assert len(rows(folder)) == 8 and all(row['status'] == 'ok' for row in rows(folder))
    best = json.loads((folder / 'best.json').read_text())
    assert [entry['rank'] for entry in best] == [1, 2]
    fitness = [row['metrics']['coco/bbox_mAP'] for row in rows(folder)]
    assert best[0]['metrics']['coco/bbox_mAP'] == max(fitness)
    for entry in best:
        stem = f'best/rank{entry["rank"]}_{entry["id"]}'
        files = {key: entry[key] for key in ('config', 'checkpoint', 'search_val')}
        assert files == dict(config=f'{stem}.py', checkpoint=f'{stem}.pth', search_val=f'{stem}_search_val.py')
        assert all((folder / file).is_file() for file in files.values())
        weights = torch.load(folder / entry['checkpoint'], weights_only=True)
        assert weights['meta']['arch'] == entry['arch']
    assert (folder / 'progress.png').read_bytes()[:4] == b'\x89PNG'
    assert output.count('acceptance rate') == 2


def printed_command(output, words):
    """A command that the search printed, as a shell reads it."""
    (line,) = [line for line in output.splitlines() if words in line]
    python, *arguments = shlex.split(line.partition(words)[2])
    assert python == 'python'
    return [sys.executable, '-W', 'ignore', *arguments]


def printed_score(done):
    """The mAP that tools/test.py printed."""
    assert done.returncode == 0, done.stderr[-3000:]
    return float((done.stdout + done.stderr).split('coco/bbox_mAP: ')[1].split()[0])


@pytest.fixture(scope='module')
def elsewhere(retinanet_supernet, tmp_path_factory):
    """The same search from a user's own folder, by a config that inherits one of this package's."""
    folder = tmp_path_factory.mktemp("somebody's project")
    (folder / 'mine.py').write_text("_base_ = 'detnas_mm::digits/detnas-digits_search_retinanet.py'\n")
    arguments = command(retinanet_supernet, 'my runs')
    arguments[arguments.index(str(CONFIG))] = 'mine.py'
    done = run(arguments, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout + done.stderr


def test_the_printed_commands_work_there(finished, elsewhere, tmp_path):
    """Each as it is printed: re-scored on search-val to the digits that mmdet prints, tested, and trained a step."""
    folder, output = elsewhere
    assert rows(folder / 'my runs') == rows(finished[0])
    fitness = json.loads((folder / 'my runs' / 'best.json').read_text())[0]['metrics']['coco/bbox_mAP']
    work_dir = ['--work-dir', str(tmp_path)]
    rescored = run([*printed_command(output, 'Re-score it on search-val: '), *work_dir], cwd=folder)
    assert printed_score(rescored) == pytest.approx(fitness, abs=5.1e-5 + 5e-4)
    tested = run([*printed_command(output, 'Test it: '), *work_dir], cwd=folder)
    assert 0 < printed_score(tested) != printed_score(rescored)  # on the test set, by the training config's thresholds
    retraining = printed_command(output, 'Train it further, from these weights: ')
    trained = run([*retraining, 'train_cfg.max_iters=1', *work_dir], cwd=folder)
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert 'Load checkpoint from' in trained.stdout + trained.stderr
    assert len((trained.stdout.partition('Saving checkpoint')[0] + trained.stderr).splitlines()) <= 30
    assert (tmp_path / 'iter_1.pth').is_file()


def test_re_scoring_gives_the_rows_unrounded_value(finished, tmp_path, monkeypatch):
    folder, _ = finished
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the search had
    try:
        for entry in json.loads((folder / 'best.json').read_text()):
            files = folder / entry['search_val'], folder / entry['checkpoint']
            _, score = unrounded_test(*files, tmp_path, monkeypatch)
            assert score == entry['metrics']['coco/bbox_mAP']
    finally:
        torch.set_num_threads(threads)


#: Where a search is killed: code that runs in its process first, calling ``die()``.
KILLS = {
    'when the ledger has just been begun': """
        wrap(Ledger, '_open', lambda call, *args: (call(*args), die()))""",
    'after the first row': """
        wrap(Ledger, 'append', lambda call, *args: (call(*args), len(args[0].records) == 1 and die()))""",
    'within the rows of the second generation': """
        wrap(Ledger, 'append', lambda call, *args: (call(*args), len(args[0].records) == 6 and die()))""",
    'while the second generation is recalibrated': """
        wrap(bn_recalibration, 'average', lambda call, *args: rows_written() == 4 and die() or call(*args))""",
    'in the middle of a write': """
        def half(call, handle, data):
            if data.startswith(b'{"index":3'):
                call(handle, data[: len(data) // 2])
                os.fsync(handle)
                die()
            return call(handle, data)
        ledger.os = type('os', (), dict(vars(os), write=staticmethod(lambda *args: half(os.write, *args))))""",
}
PREPARED = """
import os, runpy, signal, sys
from pathlib import Path
from detnas_mm.evaluators.one_shot import bn_recalibration
from detnas_mm.search import Ledger, ledger

def die(): os.kill(os.getpid(), signal.SIGKILL)
def rows_written(): return Path({path!r}).read_bytes().count(b'\\n') - 1
def wrap(owner, name, around):
    call = getattr(owner, name)
    setattr(owner, name, lambda *args: around(call, *args))
{code}
sys.argv = {argv!r}
sys.path.insert(0, {root!r})
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.parametrize('where', KILLS)
def test_killed_and_started_again_it_ends_the_same(finished, retinanet_supernet, tmp_path, where):
    """By SIGKILL, which no program can catch."""
    folder, _ = finished
    arguments, path = command(retinanet_supernet, tmp_path), tmp_path / 'ledger.jsonl'
    code = PREPARED.format(path=str(path), code=textwrap.dedent(KILLS[where]), argv=arguments[3:], root=str(ROOT))
    killed = run([sys.executable, '-W', 'ignore', '-c', code])
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    left = path.read_bytes()
    whole = left[: left.rindex(b'\n') + 1] if left else left
    assert (left != whole) == (where == 'in the middle of a write')
    again = run([arguments[0], '-W', 'default::UserWarning', *arguments[3:]])
    assert again.returncode == 0, again.stderr[-3000:]
    assert ('last line' in again.stderr) == (left != whole)
    assert path.read_bytes().startswith(whole)
    assert rows(tmp_path) == rows(folder)
    assert json.loads((tmp_path / 'best.json').read_text()) == json.loads((folder / 'best.json').read_text())
    attempts = [json.loads(line)['attempt'] for line in path.read_bytes().splitlines()[1:]]
    kept = max(whole.count(b'\n') - 1, 0)
    assert attempts == [1] * kept + [2 if kept else 1] * (8 - kept)  # what was there is not evaluated again


def test_killed_from_outside_while_it_works(finished, retinanet_supernet, tmp_path):
    folder, _ = finished
    path = tmp_path / 'ledger.jsonl'
    with subprocess.Popen(
        command(retinanet_supernet, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
    ) as process:  # fmt: skip
        deadline = time.time() + 300
        while time.time() < deadline and process.poll() is None and not (path.exists() and path.stat().st_size):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    again = run(command(retinanet_supernet, tmp_path))
    assert again.returncode == 0, again.stderr[-3000:]
    assert rows(tmp_path) == rows(folder)


def test_any_row_can_be_exported_later(finished, retinanet_supernet, tmp_path):
    folder, _ = finished
    tool = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / 'export_subnet.py'), str(folder)]
    best = json.loads((folder / 'best.json').read_text())[0]
    done = run([*tool, best['arch']])
    assert done.returncode == 0, done.stderr[-3000:]
    again, first = (
        torch.load(path, weights_only=True)
        for path in (folder / 'exported' / f'{best["id"]}.pth', folder / best['checkpoint'])
    )
    assert again['meta'] == first['meta']
    assert all(torch.equal(again['state_dict'][k], v) for k, v in first['state_dict'].items())
    wrong = run([*tool, '0123456789ab'])
    assert wrong.returncode == 1 and 'is not the id or architecture of a successful row' in wrong.stderr
    other = torch.load(retinanet_supernet, weights_only=False)['state_dict']
    other['backbone.stem.conv.weight'][0] += 1
    torch.save(dict(state_dict=other), tmp_path / 'other.pth')
    refused = run([*tool, best['arch'], '--checkpoint', str(tmp_path / 'other.pth')])
    assert refused.returncode == 1 and 'has other weights' in refused.stderr


def on_ranks(number, checkpoint, work_dir, *more):
    return [
        'bash', str(ROOT / 'tools' / 'dist_search.sh'), str(CONFIG), str(checkpoint), str(number),
        '--work-dir', str(work_dir), '--cfg-options', *OPTIONS, *more,
    ]  # fmt: skip


@pytest.mark.parametrize('number', [2, 3, 4])
def test_any_number_of_ranks_gives_one_ranks_rows(finished, retinanet_supernet, tmp_path, number):
    folder, _ = finished
    done = run(on_ranks(number, retinanet_supernet, tmp_path), env={'PYTHON': sys.executable})
    assert done.returncode == 0, done.stderr[-3000:]
    assert rows(tmp_path) == rows(folder)
    ours, theirs = (json.loads((f / 'best.json').read_text())[0] for f in (tmp_path, folder))
    assert ours == theirs
    first, second = (torch.load(f / ours['checkpoint'], weights_only=True)['state_dict'] for f in (tmp_path, folder))
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def ranks_of(work_dir):
    """Process ids of the ranks that search in a folder."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_bytes().split(b'\0')
        except OSError:  # it has ended
            continue
        started_by_torchrun = b'torch.distributed.run' in words or words[0].endswith(b'bash')
        if os.fsencode(work_dir) in words and not started_by_torchrun:
            found.append(int(path.parent.name))
    return sorted(found)


def test_a_rank_that_is_killed_costs_a_chunk_at_most(finished, retinanet_supernet, tmp_path):
    folder, _ = finished
    ledger = tmp_path / 'ledger.jsonl'
    command = on_ranks(2, retinanet_supernet, tmp_path, 'search.evaluator.chunk_size=2')
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
        deadline = time.monotonic() + 300
        while not ledger.exists() or ledger.read_bytes().count(b'\n') < 3:  # the first line, and two rows
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        ranks = ranks_of(tmp_path)
        assert len(ranks) == 2
        os.kill(ranks[-1], signal.SIGKILL)
        at_the_kill = ledger.read_bytes()
        output, _ = job.communicate(timeout=600)
    assert job.returncode == 0, output[-3000:]
    assert rows(tmp_path) == rows(folder)
    assert ledger.read_bytes().startswith(at_the_kill)
    attempts = [json.loads(line)['attempt'] for line in ledger.read_bytes().splitlines()[1:]]
    assert attempts == sorted(attempts) and set(attempts) == {1, 2}
    assert re.search(r'Resuming from .*ledger.jsonl: it holds \d evaluated candidates?', output)


def test_another_checkpoint_is_refused_and_nothing_is_lost(finished, retinanet_supernet, tmp_path):
    folder, _ = finished
    before = (folder / 'ledger.jsonl').read_bytes()
    other = torch.load(retinanet_supernet, weights_only=False)['state_dict']
    other['backbone.stem.conv.weight'][0] += 1
    torch.save(dict(state_dict=other), tmp_path / 'other.pth')
    refused = run(command(tmp_path / 'other.pth', folder))
    assert refused.returncode == 1
    assert 'error: ' in refused.stderr and 'Differences: weights' in refused.stderr.replace('\n', ' ')
    assert (folder / 'ledger.jsonl').read_bytes() == before


def test_a_search_on_random_weights_is_refused(digits_folder, tmp_path):
    runner = digits.runner('detnas-digits_search_retinanet', tmp_path)
    with pytest.raises(DetNASError, match='random weights'):
        runner.train()


def test_training_and_search_in_one_run(digits_folder, tmp_path):
    """The hook after a training, on the averaged weights, which the checkpoint holds too."""
    search = digits.config('detnas-digits_search_retinanet', tmp_path).search
    search.strategy = dict(type='RandomStrategy', population=2)
    runner = digits.runner(
        'detnas-digits_supernet_retinanet',
        tmp_path,
        train_cfg__max_iters=3,
        search=search,
        search__budget__generations=1,
        search__evaluator__calibration__num_images=20,
        model__test_cfg__score_thr=0.0,
        custom_hooks=[
            dict(type='detnas_mm.PathSamplingHook', seed=7),
            dict(type='EMAHook', momentum=0.005),
            dict(type='detnas_mm.EvolutionSearchHook'),
        ],
    )
    runner.train()
    assert sampler(tmp_path) == 'UniformPathSampler from seed 7'
    best = json.loads((tmp_path / 'best.json').read_text())[0]
    exported = torch.load(tmp_path / best['checkpoint'], weights_only=True)['state_dict']
    saved = torch.load(tmp_path / 'iter_3.pth', weights_only=False)['state_dict']
    assert torch.equal(exported['backbone.stem.conv.weight'], saved['backbone.stem.conv.weight'])
    assert not torch.equal(runner.model.backbone.stem.conv.weight, saved['backbone.stem.conv.weight'])


def test_a_loader_worker_that_is_killed_ends_the_search_in_one_line(finished, retinanet_supernet, tmp_path):
    """As the system does when memory runs out; resumed, the search gives the result of an uninterrupted one."""
    (tmp_path / 'killer.py').write_text(
        textwrap.dedent("""
        import multiprocessing, os, signal
        from mmengine.registry import TRANSFORMS

        @TRANSFORMS.register_module()
        class Killer:
            def __call__(self, results):
                if os.environ.get('KILL') == '1' and multiprocessing.parent_process() and results['img_id'] % 7 == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                return results
        """)
    )
    with_killer = Config.fromfile(CONFIG).test_pipeline
    with_killer.insert(1, dict(type='mmengine.Killer'))
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = {str(CONFIG)!r}\ncustom_imports = dict(imports=['killer'])\n"
        f'pipeline = {with_killer!r}\n'
        'search = dict(evaluator=dict(dataloader=dict(num_workers=2, dataset=dict(pipeline=pipeline))))\n'
    )
    arguments = command(retinanet_supernet, tmp_path / 'search')
    arguments[arguments.index(str(CONFIG))] = str(config)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    killed = run(arguments, env=dict(KILL='1', PYTHONPATH=path), timeout=300)
    assert killed.returncode == 1 and 'Traceback' not in killed.stderr, killed.stderr[-3000:]
    assert 'ended by SIGKILL before its work was done' in killed.stderr.splitlines()[-1]
    again = run(arguments, env=dict(PYTHONPATH=path))
    assert again.returncode == 0, again.stderr[-3000:]
    assert rows(tmp_path / 'search') == rows(finished[0])
