"""Evolution over the supernet of single paths on Digits, by config alone."""

import json

import pytest
from mmengine.config import Config

from detnas_mm.engine import launch
from detnas_mm.search import read_ledger
from tests import digits

METRIC = 'coco/bbox_mAP'


@pytest.mark.slow
def test_a_supernet_of_single_paths_is_trained_searched_and_exported(digits_folder, tmp_path):
    """A few steps, two generations of four; the best net's own test, of sorted channels, gives its row's score."""
    steps = 40
    warm_up = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=20)]
    digits.runner(
        'nats-digits_supernet-paths_retinanet', tmp_path / 'supernet', train_cfg__max_iters=steps,
        param_scheduler=warm_up,
    ).train()  # fmt: skip
    cfg = digits.written('nats-digits_search-evolution_retinanet', tmp_path / 'search')
    cfg.search.strategy.update(population=4, parents=2, mutation=2, crossover=2)
    cfg.search.budget.generations = 2
    cfg.search.evaluator.calibration.num_images = 40
    cfg.search.export.sort_channels = True
    launch.search(cfg, str(tmp_path / 'supernet' / f'iter_{steps}.pth'))
    rows = read_ledger(tmp_path / 'search' / 'ledger.jsonl')[1]
    assert [row.generation for row in rows] == [0] * 4 + [1] * 4 and all(row.ok for row in rows)
    (best,) = json.loads((tmp_path / 'search' / 'best.json').read_text())
    assert best['metrics'][METRIC] == max(row.metrics[METRIC] for row in rows) > 0
    assert len({row.metrics[METRIC] for row in rows}) > 4  # dilations make a difference
    tested = Config.fromfile(tmp_path / 'search' / best['search_val'])
    assert tested.model.backbone.type == 'detnas_mm.DilatedBackbone'
    assert tested.model.backbone.channel_order == 'sorted' and tested.model.backbone.genotypes != best['arch']
    tested.merge_from_dict(
        dict(work_dir=str(tmp_path / 'test'), load_from=str(tmp_path / 'search' / best['checkpoint']), launcher='none')
    )
    assert launch.test(tested)[METRIC] == pytest.approx(best['metrics'][METRIC], abs=5e-4)  # to the digits printed
