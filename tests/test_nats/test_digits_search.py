"""The search by gradient on Digits, by the tools: augmentation, workers, a kill; and what it exports."""

import json
import os
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

from detnas_mm.search import read_ledger
from detnas_mm.search.record import VOLATILE
from tests import digits
from tests.test_engine.seeded_training import in_new_processes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def project(digits_folder, tmp_path_factory):
    """A folder with a search of three short epochs from a pre-trained backbone, and what kills it."""
    folder = tmp_path_factory.mktemp('project')
    shutil.copy(Path(__file__).parent / 'killed_search.py', folder)
    plain = digits.runner('nats-digits_net_retinanet', folder / 'plain').model.backbone
    plain.init_weights()
    torch.save(dict(state_dict=plain.state_dict()), folder / 'backbone.pth')
    (folder / 'search.py').write_text(f"""
_base_ = {str(digits.CONFIGS / 'nats-digits_search_retinanet.py')!r}
custom_imports = dict(imports=['killed_search'])
flips = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomResize', scale=[(64, 64), (96, 96)], keep_ratio=True),
    dict(type='PackDetInputs'),
]
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='backbone.pth')))
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dict(indices=16, pipeline=flips))
train_cfg = dict(
    max_epochs=3, alpha_dataloader=dict(batch_size=4, num_workers=2, dataset=dict(indices=-12, pipeline=flips))
)
custom_hooks = [
    dict(type='detnas_mm.EpochSeedHook'),
    dict(
        type='detnas_mm.NATSSearchHook',
        calibration=dict(
            dataloader=dict(batch_size=8, num_workers=0, dataset={{{{_base_.alpha_dataset}}}}), num_images=16
        ),
    ),
    dict(type='KilledHook'),
]
""")
    return folder


def program(words, folder, env, output):
    """Runs a tool's file as the command would, in a process that has the libraries imported already."""
    with open(output, 'wb') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(folder)
    os.environ.update(env)
    torch.set_num_threads(1)
    sys.path.insert(0, str(folder))
    sys.argv = list(words)
    runpy.run_path(words[0], run_name='__main__')


def run(project, *words, die_at=None, code=0):
    env = dict(TQDM_DISABLE='1', DETNAS_DIGITS=os.environ['DETNAS_DIGITS'])
    env |= {} if die_at is None else dict(DIE_AT=die_at)
    output = project / 'output.txt'
    found = in_new_processes(program, words, project, env, output)
    assert found == code, output.read_text()[-4000:]
    return output.read_text()


def tool(name, *words):
    return str(ROOT / 'tools' / name), *words


def result(folder):
    _, records = read_ledger(folder / 'ledger.jsonl')
    rows = [{key: value for key, value in one.to_json().items() if key not in VOLATILE} for one in records]
    (best,) = json.loads((folder / 'best.json').read_text())
    last = torch.load(folder / 'epoch_3.pth', weights_only=False)['state_dict']
    return rows, best, last, torch.load(folder / best['checkpoint'], weights_only=True)['state_dict']


@pytest.fixture(scope='module')
def never_killed(project):
    output = run(project, *tool('train.py', 'search.py', '--work-dir', 'whole'))
    return output, *result(project / 'whole')


def test_killed_between_a_row_and_its_checkpoint(project, never_killed):
    """By either tool; rows, α, weights and what is exported are those of a search that was never killed."""
    run(project, *tool('train.py', 'search.py', '--work-dir', 'killed'), die_at='1', code=-9)
    run(project, *tool('search.py', 'search.py', '--work-dir', 'killed'))
    rows, best, last, exported = result(project / 'killed')
    _, *expected = never_killed
    assert rows == expected[0] and best == expected[1]
    for ours, theirs in ((last, expected[2]), (exported, expected[3])):
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_what_it_writes(project, never_killed):
    output, rows, best, last, exported = never_killed
    assert [row['metrics']['alpha_entropy'] for row in rows][0] == 1 > rows[-1]['metrics']['alpha_entropy']
    assert (project / 'whole' / 'genotypes.png').read_bytes().startswith(b'\x89PNG')
    assert best['batch_norm'] == '53 layers recalibrated for the found net on 16 images'
    assert 'epoch 3/3: layer2: 1x1 ' in output and '(alpha_entropy 0.' in output
    assert set(exported) == {key for key in last if not key.endswith('.alpha')}
    scalars = (next((project / 'whole').glob('*/vis_data/scalars.json'))).read_text().splitlines()
    shares = [line for line in map(json.loads, scalars) if 'share/layer2/1x1' in line]
    assert [line['step'] for line in shares] == [1, 2, 3] and shares[0]['share/layer2/1x1'] == 1
    assert [line['alpha_entropy'] for line in shares] == [row['metrics']['alpha_entropy'] for row in rows]


def test_its_commands_work(project, never_killed):
    """Tested as it is, and retrained from the pre-trained backbone as in the paper."""
    output, _, best, *_ = never_killed
    lines = {
        line.partition(' - INFO - ')[2].partition(':')[0]: line for line in output.splitlines() if 'python ' in line
    }
    test = shlex.split(lines['Test it'].partition('python ')[2])
    assert 'Iter(test) [2/2]' in run(project, *test, '--work-dir', 'tested')  # it detects nothing yet
    paper = shlex.split(lines['Retrain it as in the paper, from the pre-trained backbone'].partition('python ')[2])
    assert any(str(project / 'backbone.pth') in word for word in paper)
    options = ('train_cfg.max_iters=1', 'optim_wrapper.optimizer.lr=0.0', 'train_dataloader.batch_size=2')
    run(project, *paper, *options, 'default_hooks.checkpoint.interval=1', '--work-dir', 'retrained')
    retrained = torch.load(project / 'retrained' / 'iter_1.pth', weights_only=False)['state_dict']
    pretrained = torch.load(project / 'backbone.pth', weights_only=True)['state_dict']
    learnt = [key for key in pretrained if key.endswith(('weight', 'bias'))]
    assert learnt and all(torch.equal(retrained[f'backbone.{key}'], pretrained[key]) for key in learnt)
