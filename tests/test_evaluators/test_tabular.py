"""Searches over a table: the ledger of an earlier search."""

import numpy as np
import pytest
from mmengine.config import Config

from detnas_mm.engine import run_search
from detnas_mm.evaluators import TabularEvaluator
from detnas_mm.evaluators.one_shot.racing import judged_on
from detnas_mm.search import Evaluation, Ledger, Objective, Record, SearchJob, read_ledger
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.testing import check_evaluator
from tests.jobs import make_job

DESCRIPTION = dict(stem=8, channels=(16, 24, 32, 64), blocks=(1, 1, 1, 1))
SPACE = DetNASSpace(DESCRIPTION)


def fitness(arch):
    return sum((position + 1) * gene for position, gene in enumerate(arch.genes)) / 100


def row(index, arch, **changes):
    """A candidate judged on 100 images, on a share of 25 within ±0.001 of its fitness."""
    noise = np.random.default_rng(index).uniform(-0.001, 0.001)
    values = dict(
        index=index, generation=0, id=arch.id, arch=SPACE.describe(arch), origin='random', parents=(), status='ok',
        reason=None, metrics=dict(mAP=fitness(arch)), costs={},
        details=dict(images=100, partial={'25': dict(mAP=fitness(arch) + noise)}),
    )  # fmt: skip
    return Record(**(values | changes))


@pytest.fixture(scope='module')
def archs():
    """The whole space of 256."""
    return [SPACE.parse([i // 64, i // 16 % 4, i // 4 % 4, i % 4]) for i in range(256)]


@pytest.fixture(scope='module')
def table(archs, tmp_path_factory):
    path = tmp_path_factory.mktemp('table') / 'ledger.jsonl'
    failed = dict(status='failed', reason='no detections', metrics={}, details=dict(images=100))
    with Ledger(path, dict(space=SPACE.spec(), evaluator=dict(type='OneShotEvaluator'), seed=0)) as ledger:
        ledger.extend(row(i, arch, **(failed if i == 7 else {})) for i, arch in enumerate(archs))
    return path


def test_it_gives_what_the_rows_say(table, archs):
    evaluations = check_evaluator(TabularEvaluator(table), SPACE, [archs[200], archs[7], archs[33], archs[255]])
    assert evaluations[0] == Evaluation(dict(mAP=fitness(archs[200])), details=row(200, archs[200]).details)
    assert evaluations[1] == Evaluation(failure='no detections', details=dict(images=100))


def test_shares_that_were_judged_on_other_statistics_are_refused(table, archs, tmp_path):
    ask = dict(shares=[0.25], calibration=0.25)
    with pytest.raises(
        ValueError, match=r'after 1 of the calibration images, but racing.calibration is 0.25. Set it to 1'
    ):
        TabularEvaluator(table, ask).setup(job_over(SPACE))
    path = tmp_path / 'ledger.jsonl'
    with Ledger(path, dict(space=SPACE.spec(), evaluator=dict(racing=dict(calibration=0.25)))) as ledger:
        ledger.append(row(0, archs[0]))
    TabularEvaluator(path, ask).setup(job_over(SPACE))
    with pytest.raises(ValueError, match='Set it to 0.25'):
        TabularEvaluator(path, dict(shares=[0.25])).setup(job_over(SPACE))


def job_over(space):
    return make_job(space, [Objective('mAP')])


def search(table, work_dir, **changes):
    section = dict(
        space=dict(type='DetNASSpace', space=DESCRIPTION),
        strategy=dict(type='EvolutionStrategy', population=20, parents=5),
        evaluator=dict(type='TabularEvaluator', ledger=str(table), **changes),
        objectives=[dict(name='mAP')],
        costs=dict(macs=dict(type='MacsTable', input_size=64)),
        budget=dict(generations=6),
    )
    job = SearchJob.from_config(Config(dict(search=section, work_dir=str(work_dir))), log=lambda text: None)
    job.prepare()
    return run_search(job)


def test_a_search_over_it_with_racing_finds_the_best_with_fewer_images(table, tmp_path):
    plain = search(table, tmp_path / 'plain')
    raced = search(table, tmp_path / 'raced', racing=dict(shares=[0.25], keep=5))
    assert plain[0].arch == raced[0].arch
    assert [r.arch for r in plain[:5]] == [r.arch for r in raced[:5]]
    _, records = read_ledger(tmp_path / 'raced' / 'ledger.jsonl')
    dropped = [r for r in records if r.status == 'dropped']
    assert len(dropped) > 20 and {judged_on(r) for r in dropped} == {25}
    assert all(r.status != 'dropped' for r in records if r.generation == 0)
    assert max(fitness(SPACE.parse(r.arch)) for r in dropped) < raced[4].metrics['mAP']


def test_what_is_missing_is_said(table, archs, tmp_path):
    with pytest.raises(ValueError, match='but search.space is'):
        TabularEvaluator(table).setup(job_over(DetNASSpace('small')))
    short = tmp_path / 'ledger.jsonl'
    with Ledger(short, dict(space=SPACE.spec(), evaluator={}, seed=0)) as ledger:
        ledger.extend([row(0, archs[0])])
    evaluator = TabularEvaluator(short, racing=dict(shares=[0.5]))
    evaluator.setup(job_over(SPACE))
    with pytest.raises(ValueError, match=r'has no row of \[0, 0, 0, 1\]'):
        list(evaluator.evaluate([archs[1]]))
    with pytest.raises(ValueError, match='has no metrics of .* on 0.5 of the images'):
        list(evaluator.evaluate([archs[0]]))
    assert evaluator.spec()['racing']['shares'] == [0.5]
