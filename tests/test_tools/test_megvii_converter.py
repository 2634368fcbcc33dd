"""The converter as a program: what it writes, says and refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip('torch')

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'test_models'))
from megvii_reference import make_state_dict  # noqa: E402

TOOL = ROOT / 'tools' / 'model_converters' / 'megvii_to_detnas_mm.py'
SPACE = dict(stem=4, channels=(8, 16), blocks=(1, 2))


def run(*args):
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], capture_output=True, text=True, env=env)


def test_a_detectors_backbone(tmp_path):
    source = {f'module.backbone.body.{k}': v for k, v in make_state_dict(**SPACE, arch='312').items()}
    source |= {'module.rpn.head.conv.weight': torch.zeros(1), 'module.rpn.head.conv.bias': torch.zeros(1)}
    torch.save(dict(model=source), tmp_path / 'src.pth')
    src, dst = tmp_path / 'src.pth', tmp_path / 'out' / 'dst.pth'

    refused = run(src, dst)
    assert refused.returncode == 1 and 'module.rpn.head.conv.bias' in refused.stderr and not dst.exists()
    assert 'Traceback' not in refused.stderr

    done = run(src, dst, '--backbone-only')
    assert done.returncode == 0, done.stderr
    assert 'Left out 2 tensors: module.rpn.head.* (2)' in done.stdout or 'Left out 2 tensors: module.rpn' in done.stdout
    assert "net 3|12, space {'stem': 4" in done.stdout and "channel_split 'even_odd'" in done.stdout
    loaded = torch.load(dst, weights_only=True)
    assert loaded['meta']['arch'] == '3|12' and 'stem.conv.bias' in loaded['state_dict']
    assert [p.name for p in dst.parent.iterdir()] == ['dst.pth']

    # the printed config is what loads it
    line = next(line for line in done.stdout.splitlines() if line.startswith('as a backbone:'))
    from detnas_mm.registry import MODELS

    net = MODELS.build(eval(line.partition(':')[2]))
    net.init_weights()
    assert torch.equal(net.stem.conv.bias, source['module.backbone.body.first_conv.conv.bias'])


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / 'dst.pth').write_text('precious')
    done = run(tmp_path / 'absent.pth', tmp_path / 'dst.pth')
    assert done.returncode == 1 and '--overwrite' in done.stderr
    assert (tmp_path / 'dst.pth').read_text() == 'precious'


def test_help_teaches():
    done = run('--help')
    assert done.returncode == 0
    for word in ('--trust-pickle', '--backbone-only', "prefix='backbone.'", 'even_odd', 'weights_only=True'):
        assert word in done.stdout
