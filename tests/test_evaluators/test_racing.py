"""Racing drops candidates without prospect, and none that may be among the best."""

import numpy as np
import pytest
from scipy import stats

from detnas_mm.evaluators import OneShotEvaluator
from detnas_mm.evaluators.one_shot.racing import Racing, spared, upper_bound
from detnas_mm.search import Objective, Record
from detnas_mm.testing import ToyCost, ToySpace
from tests.jobs import make_job

MAP = Objective('mAP')


def record(index, part, full, images=100, **changes):
    values = dict(
        index=index, generation=0, id=f'id{index}', arch=str(index), origin='random', parents=(), status='ok',
        reason=None, metrics=dict(mAP=full), costs={}, details=dict(images=400, partial={str(images): dict(mAP=part)}),
    )  # fmt: skip
    return Record(**(values | changes))


def racing_for(objective=MAP, **settings):
    racing = Racing(**settings)
    racing.setup([objective])
    return racing


def population(rng, count, noise=0.01):
    """(value on the share, value on all images) of candidates as they come."""
    full = rng.normal(0.3, 0.03, count)
    return np.stack([0.8 * full + 0.05 + rng.normal(0, noise, count), full], 1)


def test_the_bound_is_that_of_linear_regression():
    rng = np.random.default_rng(0)
    pairs = population(rng, 15)
    line = stats.linregress(*pairs.T)
    x, n = 0.27, len(pairs)
    errors = pairs[:, 1] - line.intercept - line.slope * pairs[:, 0]
    sd = np.sqrt((errors**2).sum() / (n - 2))
    centre = pairs[:, 0].mean()
    width = sd * np.sqrt(1 + 1 / n + (x - centre) ** 2 / ((pairs[:, 0] - centre) ** 2).sum())
    wanted = line.intercept + line.slope * x + stats.t.ppf(0.9, n - 2) * width
    assert upper_bound(pairs, x, 0.9) == pytest.approx(wanted, rel=1e-12)
    assert upper_bound(np.array([[0.1, 0.2], [0.1, 0.3], [0.1, 0.4]]), 0.1, 0.9) == np.inf


def test_new_values_stay_below_the_bound_as_often_as_asked():
    rng = np.random.default_rng(0)
    below = []
    for _ in range(2000):
        known, (x, y) = population(rng, 20), population(rng, 1)[0]
        below.append(y <= upper_bound(known, x, 0.9))
    assert np.mean(below) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize('direction', ['maximize', 'minimize'])
def test_losers_are_dropped_and_winners_are_not(direction):
    rng = np.random.default_rng(1)
    racing = racing_for(Objective('mAP', direction), shares=[0.25], confidence=0.95, keep=10, at_least=20)
    sign = 1 if direction == 'maximize' else -1
    past = [record(i, sign * part, sign * full) for i, (part, full) in enumerate(population(rng, 50))]
    racing.observe(past)
    tenth = sorted((sign * r.metrics['mAP'] for r in past), reverse=True)[9]
    dropped, lost, worthy = 0, 0, 0
    for part, full in population(rng, 3000):
        verdict = racing.verdict(100, dict(mAP=sign * part))
        dropped += verdict is not None
        worthy += full >= tenth
        lost += verdict is not None and full >= tenth
    assert dropped > 1000
    assert worthy > 100 and lost <= 0.05 * worthy
    assert '95% confidence out of the best 10' in racing.verdict(100, dict(mAP=0.1 if sign > 0 else -0.1))


def test_nobody_is_dropped_before_enough_is_known():
    rng = np.random.default_rng(0)
    pairs = population(rng, 40)
    racing = racing_for(at_least=20, keep=10)
    assert racing.verdict(100, dict(mAP=0.0)) is None
    racing.observe([record(i, *pair) for i, pair in enumerate(pairs[:19])])
    assert racing.verdict(100, dict(mAP=0.0)) is None
    racing.observe([record(i, *pair) for i, pair in enumerate(pairs)])
    assert racing.verdict(100, dict(mAP=0.0)) is not None
    assert racing.verdict(200, dict(mAP=0.0)) is None  # nothing is known of this share
    assert racing_for(at_least=20, keep=10).verdict(100, {}) is None


@pytest.mark.parametrize(('confidence', 'text'), [(0.9, ' 90% '), (0.99, ' 99% '), (0.999, ' 99.9% ')])
def test_a_verdict_says_at_which_confidence(confidence, text):
    racing = racing_for(at_least=20, keep=1, confidence=confidence)
    pairs = [(x, x + 0.001 * (-1) ** i) for i, x in enumerate(np.linspace(0, 1, 40))]
    racing.observe([record(i, *pair) for i, pair in enumerate(pairs)])
    assert text in racing.verdict(100, dict(mAP=0.0))


def test_those_dropped_or_failed_before_teach_nothing():
    rng = np.random.default_rng(0)
    good = [record(i, *pair) for i, pair in enumerate(population(rng, 30))]
    strange = [
        record(30 + i, 0.9, 0.0, status=status, reason='so', metrics={})
        for i, status in enumerate(['dropped', 'failed'])
    ]
    bounds = []
    for rows in (good, good + strange):
        racing = racing_for()
        racing.observe(rows)
        bounds.append(racing.prospect(100, dict(mAP=0.3)))
    assert bounds[0] == bounds[1] < np.inf


def test_stages_are_a_fixed_partition_of_the_batches():
    racing = Racing(shares=[0.25, 0.5])
    stages = racing.stages(20, 8)
    parts = [stage.evaluation for stage in stages]
    assert [len(part) for part in parts] == [5, 5, 10]
    assert sorted(sum(parts, [])) == list(range(20))
    assert [stage.calibration for stage in stages] == [list(range(8)), [], []]
    assert stages == Racing(shares=[0.25, 0.5]).stages(20, 8)
    assert parts[0] != list(range(5))  # images that lie together are often alike
    assert [len(stage.evaluation) for stage in racing.stages(2)] == [1, 1]
    assert [len(stage.evaluation) for stage in racing.stages(1)] == [1]


def test_stages_of_which_only_the_last_is_calibrated_in_full():
    stages = Racing(shares=[0.25, 0.5], calibration=0.25).stages(20, 10)
    assert [stage.calibration for stage in stages] == [[0, 1, 2], [], [3, 4, 5, 6, 7, 8, 9]]
    assert [len(stage.evaluation) for stage in stages] == [5, 5, 20]
    whole = Racing(shares=[0.25], calibration=0.25).stages(1, 10)  # no share of one batch
    assert whole == [(list(range(10)), [0])]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(shares=[]), 'shares must be ascending'),
        (dict(shares=[0.5, 0.25]), 'shares must be ascending'),
        (dict(shares=[0.5, 1.0]), 'shares must be ascending'),
        (dict(shares=[0.0]), 'shares must be ascending'),
        (dict(confidence=0.4), 'confidence must lie'),
        (dict(confidence=1.0), 'confidence must lie'),
        (dict(keep=0), 'racing.keep must be a whole number of at least 1; got 0'),
        (dict(keep=2.5), 'racing.keep must be a whole number'),
        (dict(at_least=4), 'racing.at_least must be a whole number of at least 5'),
        (dict(shares=0.25), 'racing.shares must be a list, such as .*; got 0.25'),
        (dict(shares=['a']), 'racing.shares must be a number'),
        (dict(confidence='99%'), 'racing.confidence must be a number'),
        (dict(calibration='all'), 'racing.calibration must be a number'),
    ],
    ids=str,
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Racing(**settings)


def test_an_unknown_setting_is_named():
    loader = dict(batch_size=1, dataset={})
    with pytest.raises(ValueError, match="Racing has no argument 'share'; it takes shares, confidence, keep, at_least"):
        OneShotEvaluator(loader, {}, None, racing=dict(share=[0.5]))
    assert OneShotEvaluator(loader, {}, None, racing=dict(shares=[0.5])).racing.spec()['shares'] == [0.5]


@pytest.mark.parametrize(
    ('last', 'remark'),
    [
        ([('ok', 400), ('dropped', 100)], 'saved 38% of the images'),
        ([('dropped', 100), ('dropped', 100)], 'saved 75% of the images'),
        ([('dropped', 100), ('failed', None)], 'saved 38% of the images'),  # it may have failed at any time
        ([('ok', 400), ('failed', None)], ''),
    ],
    ids=str,
)
def test_what_was_saved_in_the_last_generation_is_said(last, remark):
    rows = [record(0, 0.1, 0.1)]
    for status, images in last:
        details = {} if images is None else dict(images=images)
        rows.append(record(len(rows), 0.1, 0.1, generation=1, status=status, details=details))
    evaluator = OneShotEvaluator(dict(batch_size=1, dataset={}), {}, None, racing=dict(shares=[0.25]))
    assert evaluator.remark(rows) == spared(rows) == remark
    assert OneShotEvaluator(dict(batch_size=1, dataset={}), {}, None).remark(rows) == ''


def test_several_objectives_are_refused():
    with pytest.raises(ValueError, match="one objective; got \\['mAP', 'macs'\\].*all objectives but one"):
        racing_for().setup([MAP, Objective('macs', 'minimize')])
    evaluator = OneShotEvaluator(dict(batch_size=1, dataset={}), {}, None, racing=dict(shares=[0.25]))
    space = ToySpace()
    objectives = [MAP, Objective('toy', 'minimize')]
    with pytest.raises(ValueError, match='Remove evaluator.racing from the config'):  # before model and data are loaded
        evaluator.check(make_job(space, objectives, dict(toy=ToyCost(space))))
