"""A search as its config describes it, and what makes its rows comparable."""

import json
from types import SimpleNamespace

import torch
from mmengine.config import Config

from detnas_mm.engine import launch
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.hooks import EvolutionSearchHook
from detnas_mm.engine.provenance import environment, frozen_otherwise, model_digest, weights_digest
from detnas_mm.evaluators import Evaluator
from detnas_mm.latency.device import describe_device
from detnas_mm.registry import EVALUATORS
from detnas_mm.search import Evaluation, SearchJob, read_ledger
from tests import digits

from .test_launch import search_cfg


def test_the_ledger_names_the_machine():
    """Another processor may change last digits; a search that resumes there logs a warning."""
    device = environment()['device']
    assert device == (torch.cuda.get_device_name() if torch.cuda.is_available() else describe_device('cpu')['name'])


def test_the_models_settings_are_part_of_what_makes_rows_comparable():
    net = torch.nn.Linear(1, 1)

    def settings(**changes):
        return model_digest(search_cfg(**changes), net)['settings']

    plain = settings()
    assert plain == settings(model__backbone__init_cfg=dict(type='Pretrained', checkpoint='x.pth'))
    assert plain != settings(model__test_cfg__score_thr=0.5)
    assert plain != settings(model__data_preprocessor__mean=[1, 2, 3])
    assert plain != settings(data_preprocessor=dict(mean=[1, 2, 3]))
    assert plain == model_digest(fit_to_machine(search_cfg()), net)['settings']


def test_the_digest_follows_every_weight_and_buffer():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    digests = {weights_digest(net)}
    for change in (net[0].weight.data.add_, net[1].running_mean.add_, net[1].num_batches_tracked.add_):
        change(1)
        digests.add(weights_digest(net))
    assert len(digests) == 4


def test_bn_that_its_training_froze_is_warned_of():
    """Calibration follows the searched model; a supernet that was trained with other settings would be recalibrated."""
    trained = Config.fromfile(digits.CONFIGS / 'nats-digits_search_retinanet.py')
    backbone = SimpleNamespace(norm_eval=False, frozen_stages=-1)
    model = torch.nn.ModuleDict(dict(backbone=torch.nn.Linear(1, 1)))
    vars(model.backbone).update(vars(backbone))
    said = []
    runner = SimpleNamespace(
        cfg=Config(dict(train_cfg=dict(max_epochs=0), load_from='a.pth')),
        model=model,
        logger=SimpleNamespace(warning=said.append),
    )
    for norm_eval in (False, True):
        trained.model.backbone.norm_eval = norm_eval
        meta = dict(cfg=trained.pretty_text)
        assert frozen_otherwise(meta, backbone) == ['norm_eval=True'] * norm_eval
        EvolutionSearchHook().after_load_checkpoint(runner, dict(state_dict=model.state_dict(), meta=meta))
        assert len(said) == norm_eval
    assert said[0].startswith('The checkpoint was trained with norm_eval=True in model.backbone, unlike this config')
    for unknown in ({}, dict(cfg='model = dict('), dict(cfg='model = None'), dict(cfg='model = dict(backbone=f())')):
        assert frozen_otherwise(unknown, backbone) == []


def test_a_job_says_what_makes_rows_comparable():
    job = SearchJob.from_config(search_cfg())
    job.evaluator.spec = lambda: {'type': 'stub'}
    header = job.header(weights='abc', settings='def')
    assert (header['weights'], header['settings']) == ('abc', 'def')
    assert header['space'] == job.space.spec() and header['evaluator'] == {'type': 'stub'}
    assert 'generations' not in str(header)  # a longer budget resumes from the same ledger


@EVALUATORS.register_module(force=True)
class CountsSevens(Evaluator):
    """Needs no model: counts 7x7 blocks."""

    def setup(self, job, model=None):
        assert model is None

    def spec(self):
        return {'type': 'CountsSevens'}

    def evaluate(self, archs):
        for arch in archs:
            yield Evaluation({'sevens': float(arch.genes.count(2))})


def test_an_evaluator_without_model_needs_no_runner_no_data_and_no_checkpoint(tmp_path):
    section = dict(
        space=dict(type='DetNASSpace', space='small'),
        strategy=dict(type='EvolutionStrategy', population=10, parents=3),
        evaluator=dict(type='CountsSevens'),
        objectives=[dict(name='sevens')],
        costs=dict(macs=dict(type='MacsTable')),
        budget=dict(generations=4),
        export=dict(top_k=2),
    )
    best = launch.run(Config(dict(search=section, work_dir=str(tmp_path))))
    assert best[0].metrics['sevens'] == max(r.metrics['sevens'] for r in read_ledger(tmp_path / 'ledger.jsonl')[1])
    entries = json.loads((tmp_path / 'best.json').read_text())
    assert [entry['arch'] for entry in entries] == [record.arch for record in best[:2]]
    assert (tmp_path / 'progress.png').stat().st_size > 10_000
