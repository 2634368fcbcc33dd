"""Racing replayed over the generations of one search, by hand-made rows."""

import json

import numpy as np
import pytest

from detnas_mm.search import Ledger, Record
from detnas_mm.systems.detnas import DetNASSpace

SPACE = DetNASSpace(dict(stem=8, channels=(16, 24, 32, 64), blocks=(1, 1, 1, 1)))
SETTINGS = dict(shares=[0.25], confidence=0.99, keep=5)


@pytest.fixture(scope='module')
def racing(load):
    return load('racing')


@pytest.fixture
def write(tmp_path):
    def write(generations, shares):
        """A ledger of generations of values, each judged on 100 images, and on 25 as ``shares`` has it."""
        path, number = tmp_path / 'ledger.jsonl', 0
        header = dict(
            space=SPACE.spec(), evaluator=dict(type='OneShotEvaluator'), seed=0, objectives=[dict(name='mAP')]
        )
        with Ledger(path, header) as ledger:
            for generation, (values, seen) in enumerate(zip(generations, shares, strict=True)):
                for value, share in zip(values, seen, strict=True):
                    arch = SPACE.parse([number // 64, number // 16 % 4, number // 4 % 4, number % 4])
                    ledger.append(
                        Record(
                            number, generation, arch.id, SPACE.describe(arch), 'random', (), 'ok', None,
                            dict(mAP=value), {},
                            details=dict(images=100, partial={'25': dict(mAP=share), '50': dict(mAP=share)}),
                        )
                    )  # fmt: skip
                    number += 1
        return path

    return write


@pytest.fixture
def values():
    return np.random.default_rng(0).uniform(0.1, 0.2, (3, 30)).tolist()


def test_shares_that_tell_all_lose_nothing_and_spare_images(racing, write, values):
    path = write(values, values)
    found = racing.replay_search(path, SETTINGS)
    assert [o['generation'] for o in found] == [2, 3]
    known = []
    for outcome, before, mine in zip(found, values, values[1:], strict=False):
        known += before
        out = sum(value < sorted(known)[-5] for value in mine)
        assert out > 15 and outcome['dropped'] == out and outcome['candidates'] == 30
        assert outcome['images'] == pytest.approx((out * 25 + (30 - out) * 100) / 3000)
        assert outcome['kept'] and outcome['regret'] == 0


def test_who_looks_worst_and_is_best_is_lost(racing, write, values):
    seen = [list(generation) for generation in values]
    values[1][3], seen[1][3] = 0.9, 0.05
    second, third = racing.replay_search(write(values, seen), SETTINGS)
    best = max(values[0] + values[1][:3] + values[1][4:])
    assert not second['kept'] and second['regret'] == pytest.approx(0.9 - best)
    assert not third['kept'] and third['regret'] == pytest.approx(0.9 - max(best, *values[2]))


def test_it_prints_a_row_for_each_confidence(racing, write, values, tmp_path, capsys, monkeypatch):
    path, out = write(values, values), tmp_path / 'racing.json'
    shares = ['--shares', '0.5', '--shares', '0.25', '0.5']
    monkeypatch.setattr('sys.argv', ['racing.py', str(path), '--keep', '5', *shares, '--out', str(out)])
    racing.main()
    assert 'top 5 kept, % of 2 generations' in capsys.readouterr().out
    rows = json.loads(out.read_text())['rows']
    confidences = ('90.0%', '95.0%', '99.0%', '99.9%')
    assert [row['racing on'] for row in rows] == [f'{s} at {c}' for s in ('50%', '25%, 50%') for c in confidences]
    assert all(row['largest regret'] == 0 and 25 < row['images, %'] < 100 for row in rows)
    assert rows[0]['images, %'] > 50 > rows[4]['images, %'] + 1
