"""EDO: the evaluator, and the strategy that decides unit by unit; what they refuse."""

import copy

import numpy as np
import pytest
from mmengine.model import stack_batch
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS
from detnas_mm.search import Budget, Constraint, LedgerError, Objective, read_ledger
from detnas_mm.systems.nats import DilationSpace
from detnas_mm.systems.nats.representation import STATISTICS
from detnas_mm.testing import check_evaluator, check_runs
from detnas_mm.testing.toy import ToyCost, ToyEvaluator, ToySpace
from tests.test_nats.edo import Model, evaluator, job_of, planted, run
from tests.test_nats.nets import cfg_of, rng


@pytest.mark.parametrize('statistic', STATISTICS)
@pytest.mark.parametrize('name', ['resnet_caffe', 'resnext', 'regnet'])
def test_dilations_that_were_planted_are_found(name, statistic):
    """Kernels that hold nine taps and hardly anything else lose hardly anything, if these are kept."""
    large, _, arch, space = planted(name, 2, noise=1e-4)
    job = job_of(space, evaluator(statistic, ((96, 96),) * 4, num_images=3))
    best, *_ = run(job, Model(large))
    same = np.mean([one == other for one, other in zip(space.parse(best.arch).genes, arch.genes, strict=True)])
    # a quarter by chance; not all, since other taps can add up to nearly nothing
    assert same > (0.95 if statistic == 'mean_channel' else 0.99)
    empty = best.metrics['representation_error']
    first = next(job.evaluator.evaluate([space.parse([0] * len(space.choices))])).metrics['representation_error']
    assert empty < 0.05 * first


def test_rows_decide_one_convolution_after_another(tmp_path):
    large, _, arch, space = planted('resnet_caffe', 2, groups=4)
    lines = []
    rows = run(job_of(space, evaluator(), log=lines.append), Model(large), tmp_path / 'ledger.jsonl')
    written = read_ledger(tmp_path / 'ledger.jsonl')[1]
    assert len(rows) == len(written) == len(space.convs) == 16 and rows[0] == written[-1]
    found = space.genes(space.parse(written[-1].arch))
    assert found == space.genes(arch)
    for number, row in enumerate(written):
        genes = space.genes(space.parse(row.arch))
        assert genes[: number + 1] == found[: number + 1] and not any(map(any, genes[number + 1 :]))
        assert row.generation == number and row.metrics['representation_error'] == sum(row.details['convs'])
    errors = [row.metrics['representation_error'] for row in written]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3 * errors[0]
    assert lines[:4] == space.notes() and lines[-1] == space.shares_text(arch)
    assert lines[4].startswith('1/16 layer1.0.conv2: channels by dilation ')
    assert (tmp_path / 'genotypes.png').read_bytes().startswith(b'\x89PNG')


def test_a_search_that_was_killed_ends_as_one_that_was_not(tmp_path):
    large, _, arch, space = planted('resnet_caffe', 2, noise=0.05)
    whole = run(job_of(space, evaluator()), Model(large))
    path = tmp_path / 'ledger.jsonl'

    class Killed(BaseException):
        pass

    for left in (0, 1, 7):
        job = job_of(space, evaluator())
        own, last = job.strategy._best, left + (len(read_ledger(path)[1]) if path.is_file() else 0)

        def until(scored, number, own=own, last=last):
            if number >= last:
                raise Killed
            return own(scored, number)

        job.strategy._best = until
        with pytest.raises(Killed):
            run(job, Model(large), path)
        assert len(read_ledger(path)[1]) == last
    rows = run(job_of(space, evaluator()), Model(large), path)
    assert [(row.arch, row.metrics) for row in rows] == [(row.arch, row.metrics) for row in whole]
    with pytest.raises(LedgerError):
        run(job_of(space, evaluator('error')), Model(large), path)
    finished = path.read_bytes()
    run(job_of(space, evaluator()), Model(large), path)
    again = path.read_bytes()
    assert again.startswith(finished) and len(read_ledger(path)[1]) == 16


CONVS_OF_TOY = [
    ('layer1.0.conv2', 8, 1, 'layer1'),
    ('layer1.1.conv2', 8, 8, 'layer1'),
    ('layer2.0.conv2', 4, 1, 'layer2'),
]


def test_the_strategy_keeps_the_contract_of_strategies():
    space = DilationSpace(convs=CONVS_OF_TOY, groups=4, genotypes=[(1, 1), (2, 1), (1, 2), (2, 2)])

    def make_job(evaluator=None):
        scored = evaluator or ToyEvaluator(['score'])
        scored.gene_scores = lambda conv: np.random.default_rng(conv).random((4, 4))
        job = job_of(space, scored, objectives=[Objective('score', 'minimize')])
        job.prepare()
        return job

    check_runs(make_job)


def test_the_evaluator_keeps_the_contract_of_evaluators():
    large, _, _, space = planted('resnet_caffe', 2, noise=0.1)
    job = job_of(space, evaluator('error'))
    found = check_evaluator(job.evaluator, job, [space.sample(rng(seed)) for seed in range(4)], Model(large).train())
    assert len({one.metrics['representation_error'] for one in found}) == 4


def test_of_equal_dilations_the_smaller_is_taken():
    """The last stage has maps of 2x2 pixels: only the middle of a dilation of 2 or 3 lies within."""
    genotypes = [(3, 3), (2, 3), (2, 2), (3, 2)]
    large, _, _, _ = planted('resnet_caffe', 3, noise=0.1)
    space = DilationSpace(cfg_of('resnet_caffe'), stages=['layer4'], preset='ic-conv', genotypes=genotypes)
    best, *_ = run(job_of(space, evaluator(sizes=((64, 64),) * 4)), Model(large))
    assert best.arch == '|'.join(f'{conv.channels}:2x2' for conv in space.convs)


# -- what is refused --------------------------------------------------------------------------------------------------


class Padding(Model):
    """A model that pads the images of a batch to one size, as detectors do."""

    @staticmethod
    def data_preprocessor(data, training):
        return dict(inputs=stack_batch(list(data['inputs'])))


@pytest.mark.parametrize('batch_size', [1, 2])
def test_images_of_several_sizes_have_no_mean_map(batch_size):
    """Padded to the largest of their batch, they would have maps of one size."""
    large, _, _, space = planted('resnet_caffe', 2, noise=0.1)
    sizes = [(96, 96), (64, 96), (64, 96), (96, 96)]
    with pytest.raises(DetNASError, match=r"='mean_map' needs images of one size; got 64x96 and 96x96\. Resize"):
        run(job_of(space, evaluator(sizes=sizes, batch_size=batch_size)), Padding(large))
    for statistic in ('mean_channel', 'error'):
        job = job_of(space, evaluator(statistic, sizes, batch_size=batch_size))
        if batch_size == 1:
            assert run(job, Padding(large))
        else:  # padding would count as image, and images of another batch would give other dilations
            with pytest.raises(DetNASError, match='has images of 64x96 and 96x96 in one batch.*batch_size=1'):
                run(job, Padding(large))


def test_supernets_that_do_not_hold_the_space_are_refused():
    large, _, _, space = planted('resnet_caffe', 2)
    wider = DilationSpace(cfg_of('resnet_caffe'), preset='ic-conv', genotypes=[(1, 1), (1, 3)])
    with pytest.raises(
        DetNASError, match=r'^layer1\.0\.conv2 has a kernel of 5x5, which contains dilations up to 2; .* 1x3'
    ):
        run(job_of(wider, evaluator()), Model(large))
    plain = MODELS.build(cfg_of('resnet_caffe'))
    with pytest.raises(DetNASError, match=r'^layer1\.0\.conv2 has a kernel of 3x3, .* up to 1; .*EnlargedBackbone'):
        run(job_of(space, evaluator()), Model(plain))
    even = copy.deepcopy(large)
    even.layer2[0].conv2 = nn.Conv2d(16, 16, 6, padding=3, bias=False)
    with pytest.raises(DetNASError, match=r'^layer2\.0\.conv2 has a kernel of 6x6; .* odd sides'):
        run(job_of(space, evaluator()), Model(even))
    with pytest.raises(
        DetNASError, match=r'^layer1\.0\.conv2 of the model is Conv2d\(8, .* 16 channels in 1 conv-groups'
    ):
        other = DilationSpace(dict(cfg_of('resnet_caffe'), base_channels=16), preset='ic-conv', genotypes=2)
        run(job_of(other, evaluator()), Model(large))
    with pytest.raises(DetNASError, match=r'has the convolutions of search\.space, features\.\d'):
        vgg = DilationSpace(dict(type='mmpretrain.VGG', depth=11), stages=['features'], genotypes=2)
        run(job_of(vgg, evaluator()), Model(large))


def test_weights_that_are_not_finite_are_refused():
    large, _, _, space = planted('resnet_caffe', 2)
    large.layer3[1].conv2.weight.data[0, 0, 0, 0] = float('nan')
    with pytest.raises(DetNASError, match=r'^The representation error of layer3\.1\.conv2 is not finite'):
        run(job_of(space, evaluator()), Model(large))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(scored=ToyEvaluator(['representation_error'])), 'ToyEvaluator scores whole architectures'),
        (dict(objectives=[Objective('representation_error')]), "name='representation_error', direction='minimize'"),
        (dict(objectives=[Objective('coco/bbox_mAP')]), "name='representation_error', direction='minimize'"),
        (dict(space=ToySpace()), r'RepresentationError scores dilations and .* got ToySpace\.'),
        (
            dict(space=ToySpace(), scored=ToyEvaluator()),
            r'EDOStrategy needs a DilationSpace; search.space is a ToySpace',
        ),
    ],
)
def test_searches_that_edo_cannot_run_are_refused(changes, message):
    space = changes.pop('space', None) or DilationSpace(convs=CONVS_OF_TOY)
    with pytest.raises(DetNASError, match=message):
        job_of(space, changes.pop('scored', None) or evaluator(), **changes).prepare()


def test_a_constraint_is_refused():
    space = DilationSpace(convs=CONVS_OF_TOY)
    toy = ToySpace()
    budget = Budget(toy, dict(toy=ToyCost(toy)), [Constraint('toy', high=9)])
    with pytest.raises(DetNASError, match='cannot use constraints, .* got toy'):
        job_of(space, evaluator(), budget=budget).prepare()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(statistic='mean'), "statistic must be one of mean_map, mean_channel, error; got 'mean'"),
        (dict(num_images=0), 'num_images must be a whole number of at least 1; got 0'),
        (dict(num_images=7, space=True), 'between 1 and 6, the number of images of Images; got 7'),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(DetNASError, match=message):
        if settings.pop('space', False):
            large, _, _, space = planted('resnet_caffe', 2)
            run(job_of(space, evaluator(**settings)), Model(large))
        evaluator(**settings)
