"""Every script of benchmarks/ runs, with the smallest useful arguments."""

import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from detnas_mm.datasets import digits as digits_sets
from detnas_mm.search import Ledger, Record
from detnas_mm.systems.detnas import DetNASSpace
from tests import digits

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'benchmarks'
#: No scripts: what the others share. And what tests of their own run: test_golden.py, test_rehearsal.py and
#: test_front_picture.py.
ELSEWHERE = ('common', 'golden', 'rehearsal', 'pictures', 'processes', 'front_picture')
SCRIPTS = sorted(path.stem for path in FOLDER.glob('*.py') if path.stem not in ELSEWHERE)
SEARCH = ROOT / 'configs' / 'digits' / 'detnas-digits_search_retinanet.py'


def coco_sizes(folder, supernet):
    config = ROOT / 'configs' / 'detnas' / 'detnas-small_search_retinanet_coco.py'
    few = ['--images', 2, 4, '--size', 64, 96, '--batch-size', 2, '--candidates', 2, '--rounds', 1]
    return [config, *few, '--precision', 'fp32', 'bf16', '--evaluation-batch-size', 2, 4]


def dilated(folder, supernet):
    return ['--nets', 'NATS small', 'supernet small', '--sizes', '64x64', '--rounds', 1]


def nats_digits(folder, supernet):
    return ['--smallest', '--seeds', 1, '--work-dir', folder]


def smnas_digits(folder, supernet):
    return ['--smallest', '--seeds', 1, '--work-dir', folder]


def digits_discrimination(folder, supernet):
    """Prepares a file as after a kill: with all runs except the last."""
    data = Path(os.environ['DETNAS_DIGITS'])
    stamp = json.loads((data / 'digits.json').read_text())
    settings = dict(
        pretrain_iters=1, finetune_iters=1, digits=stamp['parameters'], digits_format=stamp['format']
    )  # fmt: skip
    runs = [(arch, seed) for arch in ('0|0|00|0', '2|2|22|2', '3|3|33|3') for seed in range(2)]
    times = dict(top1=10.0, pretrain_s=1.0, finetune_s=1.0, settings=settings)
    rows = [dict(arch=arch, seed=seed, mAP=0.1 * n, mAP_50=0.0, **times) for n, (arch, seed) in enumerate(runs)]
    folder.joinpath('runs.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows[:-1]))
    few = ['--seeds', 2, '--random-paths', 0, '--pretrain-iters', 1, '--finetune-iters', 1, '--processes', 1]
    return ['--work-dir', folder, '--data', data, *few]


def generation(folder, supernet):
    """Prepares a supernet of two training steps, without a score threshold, since its scores are low."""
    configs = FOLDER / 'generation'
    pretrain, config = folder / 'pretrain.py', folder / 'supernet.py'
    pretrain.write_text(f'_base_ = {str(configs / "pretrain_digits.py")!r}\ntrain_cfg = dict(max_iters=2)\n')
    config.write_text(
        f'_base_ = {str(configs / "digits.py")!r}\n'
        f'pretrain = {str(pretrain)!r}\n'
        'train_cfg = dict(max_iters=2)\n'
        'model = dict(test_cfg=dict(score_thr=0.0))\n'
        'search = dict(evaluator=dict(calibration=dict(num_images=20)))\n'
    )
    few = ['--population', 2, '--alone', 1, '--generations', 1, 2, '--rounds', 1, '--val-images', 20]
    return ['--config', config, '--work-dir', folder / 'work', *few]


def group_norm(folder, supernet):
    return ['--batch', 2, '--sizes', 32, '--rounds', 1]


def ledger(folder, supernet):
    return ['--rows', 100, '--rounds', 1]


def loading(folder, supernet):
    return ['--images', 24]


def macs_table(folder, supernet):
    return ['--spaces', 'small', '--candidates', 1000, '--rounds', 1]


def maedet(folder, supernet):
    return ['--rounds', 1, '--seeds', 1, '--nets', 'maedet-s']


def memory(folder, supernet):
    return [SEARCH, supernet, '--candidates', 2]


def metric(folder, supernet):
    return ['--images', 20, '--boxes', 5, '--classes', 3, '--rounds', 1]


def narrow_windows(folder, supernet):
    return ['--smallest']


def net_latency(folder, supernet):
    """Two configs whose nets differ."""
    nets = [ROOT / 'configs' / 'digits' / f'{name}-digits_net_retinanet.py' for name in ('detnas', 'nats')]
    return [*nets, '--input-size', 64, 64, '--sessions', 2, '--rounds', 2]


def one_shot_candidate(folder, supernet):
    return [SEARCH, supernet, '--candidates', 2, '--rounds', 1]


def racing(folder, supernet):
    """Over a table of a whole space; tests/test_benchmarks/test_racing.py has it go over one search."""
    space = DetNASSpace(dict(stem=8, channels=(16, 24, 32, 64), blocks=(1, 1, 1, 1)))
    rng, path = np.random.default_rng(0), folder / 'ledger.jsonl'
    header = dict(space=space.spec(), evaluator=dict(type='OneShotEvaluator'), seed=0, objectives=[dict(name='mAP')])
    with Ledger(path, header) as table:
        for number in range(space.size):
            arch = space.parse([number // 64, number // 16 % 4, number // 4 % 4, number % 4])
            full, *shares = sum(arch.genes) / 100 + rng.normal(0, 0.001, 3)
            partial = {str(images): dict(mAP=share) for images, share in zip((25, 50), shares, strict=True)}
            table.append(
                Record(
                    number, 0, arch.id, space.describe(arch), 'random', (), 'ok', None, dict(mAP=full), {},
                    details=dict(images=100, partial=partial),
                )
            )  # fmt: skip
    return [path, '--population', 20, '--generations', 3, '--seeds', 1, '--keep', 5]


def ranks(folder, supernet):
    return [SEARCH, supernet, '--population', 2, '--rounds', 1]


def scaling(folder, supernet):
    return ['--candidates', 2, '--chunk', 2, '--images', 20, 40, '--repeats', 1]


def supernet_step(folder, supernet):
    return ['--batch', 2, '--size', 32, '--rounds', 1, '--paths', 1]


#: What makes the arguments of a script, by its name, and prepares what it reads.
ARGUMENTS = {
    make.__name__: make
    for make in (
        coco_sizes, digits_discrimination, dilated, generation, group_norm, ledger, loading, macs_table, maedet, memory,
        metric, narrow_windows, nats_digits, net_latency, one_shot_candidate, racing, ranks, scaling, smnas_digits,
        supernet_step,
    )
}  # fmt: skip
#: Scripts that write their results into the folder that they work in.
OWN_RESULT = {'digits_discrimination': 'digits_discrimination.json'}


@pytest.fixture
def small_digits(digits_folder, monkeypatch):
    """Makes scripts use data sets as small as that of the tests."""
    make = digits_sets.make_digits

    def make_small(folder, **settings):
        counts = {name: min(settings.get(name, most), most) for name, most in digits.COUNTS.items()}
        return make(folder, progress=False, **(settings | counts))

    monkeypatch.setattr(digits_sets, 'make_digits', make_small)
    monkeypatch.setenv('DETNAS_DIGITS', str(digits_folder))  # scripts name sets of their own


@pytest.fixture
def threads():
    """Scripts set the number of threads that torch computes with."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_there_is_no_entry_without_a_script():
    assert ARGUMENTS.keys() <= set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize('script', SCRIPTS)
def test_it_runs(script, load, retinanet_supernet, small_digits, threads, tmp_path, monkeypatch, capsys):
    assert script in ARGUMENTS, f'ARGUMENTS of {__file__} has no entry for benchmarks/{script}.py: add one.'
    out = tmp_path / OWN_RESULT.get(script, 'out.json')
    arguments = [str(argument) for argument in ARGUMENTS[script](tmp_path, retinanet_supernet)]
    arguments += [] if script in OWN_RESULT else ['--out', str(out)]
    monkeypatch.setattr(sys, 'argv', [f'{script}.py', *arguments])
    runpy.run_path(str(FOLDER / f'{script}.py'), run_name='__main__')
    found = json.loads(out.read_text())
    assert found['machine']['cores'] == os.cpu_count() and len(found) > 1
    assert str(out) in capsys.readouterr().out
    if script == 'coco_sizes':
        check_coco_sizes(found)


def check_coco_sizes(found):
    """Each precision and batch size has a row, and every part that is timed its seconds."""
    assert [row['precision'] for row in found['rows']] == ['fp32', 'fp32', 'bf16', 'bf16']
    assert all('days of 1,000 candidates' in row for row in found['rows'])
    for outcome in found['outcomes']:
        assert {name: len(seconds) for name, seconds in outcome['batches'].items()} == dict(
            calibration=1, evaluation=4 // outcome['batch'], metric=2
        )
        assert {'recalibration: backbone', 'evaluation: head', 'evaluation: metric'} <= outcome['parts'].keys()
