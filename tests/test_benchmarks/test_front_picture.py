"""The README's picture is drawn from what a quickstart leaves, and only from one of full size."""

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from matplotlib.image import imread

from detnas_mm.search import Ledger, Record

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / 'benchmarks' / 'front_picture.py'))
METRIC = 'coco/bbox_mAP'


@pytest.fixture
def quickstart(tmp_path):
    """The folder of a finished quickstart with made-up numbers, and its result."""
    ledger = tmp_path / 'search_retinanet' / 'ledger.jsonl'
    ledger.parent.mkdir()
    with Ledger(ledger, dict(space=dict(type='Any'), seed=0, objectives=[dict(name=METRIC)])) as rows:
        for number in range(12):
            costs = dict(macs=5e6 + 1e5 * number)
            rows.append(
                Record(
                    number, number // 4, f'{number:012x}', str(number), 'random', (), 'ok', None,
                    {METRIC: 0.3 + 0.01 * (number % 5)}, costs,
                )
            )  # fmt: skip
    nets = {
        key: dict(macs=5.5e6, fitness=0.33, test_mAP=0.5 + 0.01 * place)
        for place, key in enumerate(('found', 'random', 'smallest'))
    }
    plan = dict(detector='retinanet', seed=0, size=asdict(SCRIPT['Size']()))
    return tmp_path, dict(plan=plan, nets=nets)


def test_it_draws(quickstart, monkeypatch, capsys):
    folder, result = quickstart
    (folder / 'result.json').write_text(json.dumps(result))
    out = folder / 'images' / 'front.png'
    monkeypatch.setattr(sys, 'argv', ['front_picture.py', str(folder), '--out', str(out)])
    SCRIPT['main']()
    height, width, _ = imread(out).shape
    assert (height, width) == (400, 1000) and imread(out)[..., :3].std() > 0.05
    assert str(out) in capsys.readouterr().out


def test_it_refuses_an_unfinished_or_small_one(quickstart):
    folder, result = quickstart
    with pytest.raises(SystemExit, match='there is no .*result.json'):
        SCRIPT['draw'](folder, folder / 'front.png')
    result['plan']['size']['generations'] = 2
    (folder / 'result.json').write_text(json.dumps(result))
    with pytest.raises(SystemExit, match='another size'):
        SCRIPT['draw'](folder, folder / 'front.png')
    assert not (folder / 'front.png').exists()
