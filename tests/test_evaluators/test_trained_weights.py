"""Weights of trained candidates: which are kept, inherited by children, and exported. Trainings are faked."""

import json

import pytest
import torch

from detnas_mm.cli import read_file
from detnas_mm.engine.found import check_config
from detnas_mm.engine.search import export_row
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training.folder import CANDIDATES
from detnas_mm.registry import STRATEGIES
from detnas_mm.search import Proposal, RandomStrategy, SearchJob
from tests.test_evaluators.training import FakeWorkers, files


def test_weights_stay_while_they_would_be_exported(search, tmp_path):
    _, found = search()
    best = sorted(row['id'] for row in found if row['arch'].startswith('GFL'))
    assert files(tmp_path / 'search', 'weights.pth') == best, 'top_k=2'
    assert len(files(tmp_path / 'search', 'result.json')) == 4
    search(dict(keep='all'), folder='all')
    assert len(files(tmp_path / 'all', 'weights.pth')) == 4
    search(dict(keep='none'), folder='none')
    assert files(tmp_path / 'none', 'weights.pth') == []
    assert 'checkpoint' not in json.loads((tmp_path / 'none' / 'best.json').read_text())[0]


@STRATEGIES.register_module(force=True)
class ParentsStrategy(RandomStrategy):
    """Gives each candidate all before it for parents, the worst first; candidates are random, or as listed in words."""

    def __init__(self, population, archs=()):
        super().__init__(population)
        self.archs = archs

    def propose(self, generation, rng):
        parents = tuple(row.id for row in reversed(self.objectives[0].best_first(self.records)))
        listed = self.archs[generation].split() if self.archs else ()
        drawn = [Proposal(self.space.parse(arch)) for arch in listed] or super().propose(generation, rng)
        return [Proposal(one.arch, 'mutation', parents) for one in drawn]


def test_children_inherit_from_the_first_parent_whose_weights_are_kept(search, tmp_path):
    settings = dict(population=1, generations=4, change=lambda cfg: cfg.search.update(
        strategy=dict(type='ParentsStrategy', population=1), export=dict(top_k=1)))  # fmt: skip
    workers, found = search(dict(inherit=True), **settings)
    best = None
    for place, row in enumerate(found):
        inherited = row['details'].get('inherited')
        assert inherited == (None if best is None else dict(parent=best['id'], tensors=3, of=5))
        task = workers.tasks[place]
        option = '' if best is None else str(tmp_path / 'search' / CANDIDATES / best['id'] / 'weights.pth')
        assert ('--inherit' in task.command) == bool(option) and (not option or option in task.command)
        if best is None or row['metrics']['coco/bbox_mAP'] > best['metrics']['coco/bbox_mAP']:
            best = row
    plain, _ = search(folder='plain', **settings)
    assert not any('--inherit' in task.command for task in plain.tasks)
    keys = [{task.folder.name: task.key for task in one.tasks} for one in (workers, plain)]
    assert all(keys[0][name] != key for name, key in keys[1].items()), 'another work'


def test_a_parent_whose_weights_are_gone_since_rows_were_taken_back_is_named(search, tmp_path):
    """A cut ledger gives the same rows while results stand; what must be trained again cannot inherit the same."""
    order = ['RetinaHead@64', 'RetinaHead@96', 'GFLHead@64']
    settings = dict(population=1, generations=3, change=lambda cfg: cfg.search.update(
        strategy=dict(type='ParentsStrategy', population=1, archs=order), export=dict(top_k=1)))  # fmt: skip
    _, expected = search(dict(inherit=True), **settings)
    ids = [row['id'] for row in expected]
    assert [row['details'].get('inherited', {}).get('parent') for row in expected] == [None, ids[0], ids[1]]
    ledger = tmp_path / 'search' / 'ledger.jsonl'
    lines = ledger.read_text().splitlines(keepends=True)

    logged = []
    ledger.write_text(''.join(lines[:2]))  # the first row alone; the weights of its net are gone
    again, found = search(dict(inherit=True), log=logged.append, **settings)
    assert found == expected and again.ran == [] and not any('cannot inherit' in line for line in logged)

    ledger.write_text(''.join(lines[:2]))
    (tmp_path / 'search' / CANDIDATES / ids[1] / 'result.json').unlink()
    again, found = search(dict(inherit=True), log=logged.append, **settings)
    (line,) = [line for line in logged if 'cannot inherit' in line]
    assert (
        line.startswith(f'RetinaHead@96 cannot inherit from {ids[0]}, whose weights are gone') and 'taken back' in line
    )
    assert 'It is trained from its own initial weights, so its score may differ' in line
    assert again.ran[0] == ('RetinaHead@96', None) and '--inherit' not in again.tasks[0].command


def test_a_dropped_child_that_is_promoted_later_does_not_need_a_parent_that_is_gone(search):
    """Its checkpoint is deleted; without the parent's file its training would be lost, as by a machine that fails."""
    order = ['RetinaHead@64', 'RetinaHead@96 GFLHead@64 GFLHead@96']
    settings = dict(population=1, generations=2, change=lambda cfg: cfg.search.update(
        strategy=dict(type='ParentsStrategy', population=1, archs=order), export=dict(top_k=1)))  # fmt: skip
    evaluator = dict(inherit=True, halving=dict(at=[2], keep=0.5))
    scores = dict(zip(' '.join(order).split(), (0.1, 0.2, 0.3, 0.15)))
    _, found = search(evaluator, FakeWorkers(scores, failing={'GFLHead@96': 'KeyError'}), **settings)
    assert [row['status'] for row in found] == ['ok', 'dropped', 'ok', 'failed']
    assert found[1]['details']['inherited']['parent'] == found[0]['id']

    logged = []
    again, found = search(evaluator, FakeWorkers(scores), retry=True, log=logged.append, **settings)
    assert [row['status'] for row in found] == ['ok', 'ok', 'ok', 'dropped'], 'a share of three, not of two'
    assert again.ran == [('GFLHead@96', '2'), ('RetinaHead@96', '2'), ('RetinaHead@96', None)]
    assert not any('--inherit' in task.command for task in again.tasks)
    assert 'inherited' not in found[1]['details'] and found[2]['details']['inherited']
    assert [line.split()[0] for line in logged if 'cannot inherit' in line] == ['GFLHead@96', 'RetinaHead@96']
    last, same = search(evaluator, FakeWorkers(scores), **settings)
    assert last.ran == [] and same == found


def test_a_folder_that_was_moved_is_exported_and_measured_from(search, tmp_path):
    """By commands of another process, whose evaluator has not been set up."""
    search()
    folder = (tmp_path / 'search').rename(tmp_path / 'elsewhere')
    row = json.loads((folder / 'best.json').read_text())[1]
    files = export_row(folder, row['id'])
    assert float(torch.load(files['checkpoint'], weights_only=True)['state_dict']['score']) == pytest.approx(0.3)
    cfg = read_file(folder / 'search_config.py')
    check_config(SearchJob.from_config(cfg), folder)
    cfg.search.objectives[0].direction = 'minimize'
    with pytest.raises(DetNASError, match='has the search of another config: objectives'):
        check_config(SearchJob.from_config(cfg), folder)


def test_weights_that_are_gone_are_named(search, tmp_path):
    search()
    best = json.loads((tmp_path / 'search' / 'best.json').read_text())
    for entry in best:
        (tmp_path / 'search' / CANDIDATES / entry['id'] / 'weights.pth').unlink()
    lines = []
    search(log=lines.append)
    gone = [line for line in lines if line.startswith('The weights of')]
    assert [line.split()[3] for line in gone] == ['GFLHead@96', 'GFLHead@64']
