"""Comparisons of golden.py, on hand-made results and on one search of MAE-DET by two trees."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'benchmarks' / 'golden.py'
ROW = dict(
    index=0, generation=0, id='a1', arch='0|1', origin='mutation', parents=['b2'], status='ok', reason=None,
    metrics={'mAP': 0.1}, costs=dict(macs=5), time=dict(metric=1.5), host='here', attempt=1, images=20,
    partial={'10': {'mAP': 0.05}},
)  # fmt: skip
CONFIG = """
model = dict(type='A', backbone=dict(type='B', arch='0|1', out_indices=(1, 2), init_cfg={init}))
data_preprocessor = dict(mean=[1.0])
train_dataloader = dict(batch_size={batch})
"""


@pytest.fixture
def compare(load):
    return load('golden.compare')


@pytest.fixture
def write(tmp_path):
    """Writes a search's folder; every keyword replaces something in it."""

    def write(name, row=ROW, seed=0, value=2.5, weight=0.0, mean='1.0', best=0.1, init='None', batch=2, suffix=''):
        folder = tmp_path / name
        (folder / 'best').mkdir(parents=True)
        lines = [dict(schema=2, seed=seed, weights='w', environment=name), row]
        (folder / 'ledger.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
        entry = dict(rank=1, id='a1', arch='0|1', metrics=dict(mAP=best), costs=dict(macs=5))
        (folder / 'best.json').write_text(json.dumps([entry | dict(config=f'{name}.py')]))
        (folder / 'certificate.json').write_text(json.dumps(dict(value=value, seconds=len(name))))
        config = CONFIG.format(init=init, batch=batch).replace('[1.0]', f'[{mean}]')
        (folder / 'best' / 'rank1_a1.py').write_text('model = None' if suffix else config)
        (folder / 'best' / f'rank1_a1{suffix}.py').write_text(config)
        state = dict(stem=torch.tensor([1.0, weight]), tracked=torch.tensor(3))
        torch.save(dict(meta=entry, state_dict=state), folder / 'best' / 'rank1_a1.pth')
        return folder

    return write


@pytest.fixture
def found(compare, write):
    """Differences between a plain result and one with changes."""

    def found(**changes):
        one, other = write('one'), write('two', **changes)
        return list(compare.differences(*(compare.read_result(folder, {}) for folder in (one, other))))

    return found


@pytest.mark.parametrize(
    ('changes', 'what'),
    [
        (dict(row=ROW | dict(metrics={'mAP': 0.1 + 1e-18})), None),  # the same float
        (dict(row=ROW | dict(metrics={'mAP': 0.10000000000000002})), "ledger[0].metrics.mAP is 0.1 in BASE, 0.10000"),
        (dict(row=ROW | dict(parents=['b3'])), "ledger[0].parents[0] is 'b2' in BASE, 'b3' in"),
        (dict(row=ROW | dict(parents=[])), 'ledger[0].parents has 1 entries in BASE, 0 in'),
        (dict(row=ROW | dict(costs=dict(macs=6))), 'ledger[0].costs.macs is 5 in BASE, 6 in'),
        (dict(row=ROW | dict(costs={})), 'ledger[0].costs.macs is only in BASE: 5'),
        (dict(row=ROW | dict(status='dropped')), "ledger[0].status is 'ok'"),
        (dict(row=ROW | dict(partial={'10': {'mAP': 0.06}})), "ledger[0].partial['10'].mAP is 0.05"),
        (dict(row=ROW | dict(images=10)), 'ledger[0].images is 20'),
        (dict(seed=1), 'seed is 0 in BASE, 1 in'),
        (dict(value=2.6), 'certificate.value is 2.5'),
        (dict(best=0.2), 'best[0].metrics.mAP is 0.1'),
        (dict(weight=1e-45), 'exported.rank1_a1.tensors.stem differs in 1 of 2 values, the first is 0.0 in BASE, 1.4'),
        (dict(mean='2.0'), 'exported.rank1_a1.data_preprocessor.mean[0] is 1.0 in BASE, 2.0 in'),
    ],
)  # fmt: skip
def test_what_differs_is_said_first_with_both_values(found, changes, what):
    differences = found(**changes)
    assert (not differences) if what is None else differences[0].startswith(what), differences


def test_what_may_differ(found):
    """Time and place of a run, racing's place in a row, the training around an exported net, the name of its config."""
    row = {key: value for key, value in ROW.items() if key not in ('images', 'partial', 'reason')}
    row |= dict(time={}, host='there', attempt=2, racing=dict(images=20, partial=ROW['partial']))
    assert not found(row=row, init="dict(type='Pretrained')", batch=8, suffix='_search_val')


def test_snapshots_and_folders(compare, write, tmp_path):
    """Of populations all snapshots; in exported configs a folder of either tree counts as the same."""
    population = [dict(index=0, generation=0, id='a1', arch='0|1', origin='random', status='ok', metrics={'mAP': 0.1})]
    snapshot = dict(generation=0, drawn=9, evaluated=7, population=population, time=1.0)
    results = []
    for name, drawn in (('one', 9), ('two', 8)):
        folder = write(name, row=snapshot | dict(drawn=drawn), mean=f"'{tmp_path / name}/mean'")
        results.append(compare.read_result(folder, {str(folder): 'RUN'}))
    assert list(compare.differences(*results)) == ['ledger[0].drawn is 9 in BASE, 8 in the other']


def test_a_supernet_that_finds_nothing_shows_nothing(load):
    cases = load('golden.cases').CASES
    rows = [dict(ROW, metrics={'coco/bbox_mAP': 0.0}) for _ in range(6)]
    assert 'only 1 different values' in cases['evolution'].shows(dict(ledger=rows))
    rows = [dict(ROW, metrics={'coco/bbox_mAP': 0.1 * number}) for number in range(6)]
    assert cases['evolution'].shows(dict(ledger=rows)) is None
    assert cases['racing'].shows(dict(ledger=rows)) == 'racing dropped nobody'
    assert cases['pareto-latency'].shows(dict(ledger=rows)) == 'only 1 different latencies'


def test_cases_need_what_is_made(load):
    cases, inputs = load('golden.cases').CASES, load('golden.inputs').INPUTS
    starts = load('golden.run').STARTS
    assert all(set(case.all_needs) <= set(inputs) and case.start in starts for case in cases.values())
    assert set(starts) == {case.start for case in cases.values()}


@pytest.fixture
def commands(load, tmp_path, monkeypatch):
    """Returns the command of a case in a tree with these files, and the config that it writes."""

    def commands(name, files):
        trees, run = load('golden.trees'), load('golden.run')
        for file, text in files.items():
            (tmp_path / 'tree' / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / 'tree' / file).write_text(text)
        found = []
        monkeypatch.setattr(trees.Tree, 'run', lambda tree, command, *_: found.append([str(word) for word in command]))
        tree = trees.Tree(tmp_path / 'tree', 'the tree', 1, tmp_path)
        inputs = load('golden.inputs').Inputs(tmp_path / 'inputs', lambda: tree, 1, print)
        run.Run(load('golden.cases').CASES[name], tree, inputs, tmp_path / 'run').run()
        return found, (tmp_path / 'run/case.py').read_text()

    return commands


SHIPPED = 'configs/digits/detnas-digits_search_retinanet.py'


def test_nets_are_measured_as_each_tree_does_it(commands, tmp_path):
    shipped = {SHIPPED: 'search = dict()'}
    ((_, tool, config, checkpoint, *more),), _ = commands('measure', shipped | {'tools/front.py': ''})
    assert Path(tool).name == 'front.py' and '--measure' not in more and '--rounds' in more
    (tmp_path / 'tree/tools/front.py').unlink()
    ((_, tool, *same),), _ = commands('measure', shipped)
    assert Path(tool).name == 'search.py' and '--measure' in same
    assert [word for word in same if word != '--measure'] == [config, checkpoint, *more]


@pytest.mark.parametrize(
    ('export', 'text'), [('dict(retrain=dict())', 'export=dict( top_k'), ("dict(config='a.py')", 'config=None, top_k')]
)
def test_a_project_of_its_own_names_no_training_config_where_there_is_such_a_key(commands, export, text):
    _, config = commands('elsewhere', {SHIPPED: f'search = dict(export={export})'})
    assert text in config


def test_the_package_of_another_tree_is_refused(load, tmp_path):
    trees = load('golden.trees')
    with pytest.raises(trees.RunError, match='would import another package'):
        trees.Tree(tmp_path, 'BASE', 1, tmp_path).check(tmp_path)
    trees.Tree(ROOT, 'BASE', 1, tmp_path).check(tmp_path)


def test_programs_fail_with_their_last_words_and_leave_nothing_running(load, tmp_path):
    trees = load('golden.trees')
    tree, log, mark = trees.Tree(ROOT, 'BASE', 1, tmp_path), tmp_path / 'log.txt', tmp_path / 'mark'
    code = 'import sys; print("error: no luck", file=sys.stderr); print("more"); sys.exit(3)'
    with pytest.raises(trees.RunError, match='BASE: exit status 3: error: no luck'):
        tree.run([sys.executable, '-c', code], tmp_path, log)
    with pytest.raises(trees.RunError, match='ended before it could be killed'):
        tree.run_until([sys.executable, '-c', ''], tmp_path, log, lambda: False)
    late = f'sleep 1; touch {mark}.late'
    tree.run_until(['sh', '-c', f'({late}) & touch {mark}; sleep 60'], tmp_path, log, mark.exists)
    subprocess.run(['sleep', '1.2'])
    assert mark.exists() and not Path(f'{mark}.late').exists()


def golden(*arguments, cwd):
    return subprocess.run([sys.executable, GOLDEN, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def in_git():
    if subprocess.run(['git', '-C', ROOT, 'rev-parse', 'HEAD'], capture_output=True).returncode:
        pytest.skip('this is no git checkout')


def test_a_commit_that_is_not_there(in_git, tmp_path):
    done = golden('no-such-commit', cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith('error: git rev-parse') and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_a_commit_equals_itself_and_no_other_search(in_git, tmp_path):
    """HEAD against a copy of HEAD, then against one whose budget is smaller by a part in two hundred."""
    copy = tmp_path / 'copy'
    copy.mkdir()
    archive = subprocess.run(['git', '-C', ROOT, 'archive', 'HEAD'], capture_output=True, check=True).stdout
    subprocess.run(['tar', '-x', '-C', copy], input=archive, check=True)
    arguments = ['HEAD', '--cases', 'maedet-exact', '--tree', copy, '--work-dir', tmp_path / 'work']
    done = golden(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'maedet-exact      equal: 1 rows, 1 nets, certificate' in done.stdout
    assert not list((tmp_path / 'work').glob('*/tree'))
    section = copy / 'configs/_base_/search/maedet.py'
    assert 'high=188e8' in section.read_text()
    section.write_text(section.read_text().replace('high=188e8', 'high=187e8'))
    done = golden(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and 'DIFFERS: ledger[0].id is ' in done.stdout, done.stdout + done.stderr
