"""The benchmark's arithmetic and its ledger; its training is that of configs/digits, tested there."""

import json
import math

import pytest


@pytest.fixture(scope='module')
def benchmark(load):
    return load('digits_discrimination')


def test_standard_deviations(benchmark):
    found = benchmark.summarise([[0.30, 0.32], [0.40, 0.42], [0.35, 0.37]])
    assert found['between_paths'] == pytest.approx(0.05)
    assert found['between_seeds'] == pytest.approx(0.02 / math.sqrt(2))
    assert found['ratio'] == pytest.approx(0.05 / 0.02 * math.sqrt(2))
    assert found['true_between_paths'] == pytest.approx(math.sqrt(0.05**2 - 0.0002 / 2))


def test_equal_scores_give_no_division_by_zero(benchmark):
    assert benchmark.summarise([[0.3, 0.3], [0.3, 0.3]])['ratio'] == 0


def test_paths_are_different_and_the_same_every_time(benchmark):
    paths = benchmark.choose_paths(7)
    assert len(set(paths.values())) == 10 and paths == benchmark.choose_paths(7)
    assert list(benchmark.choose_paths(3).values()) == list(paths.values())[:6]


def test_the_ledger_goes_on_after_a_cut_line_and_refuses_other_settings(benchmark, tmp_path, capsys):
    ledger, settings = tmp_path / 'runs.jsonl', {'pretrain_iters': 5}
    assert benchmark.read_runs(ledger, settings) == {}
    row = {'arch': '0|0|00|0', 'seed': 1, 'mAP': 0.2, 'settings': settings}
    ledger.write_text(json.dumps(row) + '\n{"arch": "2|2')
    assert benchmark.read_runs(ledger, settings) == {('0|0|00|0', 1): row}
    assert 'skipped an incomplete line' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='other settings.*--work-dir'):
        benchmark.read_runs(ledger, {'pretrain_iters': 6})


def test_the_tables(benchmark):
    paths = benchmark.choose_paths(2)
    runs = {
        (arch, seed): {'mAP': 0.1 * i + 0.01 * seed, 'top1': 90.0}
        for i, arch in enumerate(paths.values())
        for seed in range(2)
    }
    text, summary = benchmark.report(paths, runs, 2)
    assert text.splitlines()[2].startswith('| random 2 |') and '0.400 0.410' in text
    assert set(summary) == {'all', 'random'} and '| all 5 paths |' in text and '| the 2 random ones |' in text
