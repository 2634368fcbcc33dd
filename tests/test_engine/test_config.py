"""Reading configs and making them fit a machine: neither changes what it is given, nor starts anything."""

import copy

import pytest
import torch.distributed
from mmengine.config import Config

from detnas_mm.cli import parser
from detnas_mm.engine import config as config_module
from detnas_mm.engine.config import fit_to_machine, read_config
from tests import digits

FPN = digits.CONFIGS / 'detnas-digits_search_fpn.py'


def norms(cfg):
    """Types of the norm layers of backbone, neck and head."""
    parts = cfg.model.backbone, cfg.model.neck, cfg.model.roi_head.bbox_head
    return [part.norm_cfg.type for part in parts]


def test_a_config_is_read_as_written(tmp_path, monkeypatch):
    """With the options of the command line, and on the way to several processes without a GPU."""
    monkeypatch.setenv('LOCAL_RANK', '0')  # which reading sets where a launcher did not
    words = ['--launcher', 'pytorch', '--work-dir', str(tmp_path), '--cfg-options', 'search.budget.generations=5']
    args = parser('').parse_args([str(FPN), *words])
    before = copy.deepcopy(vars(args))
    cfg = read_config(args)
    assert vars(args) == before
    plain = Config.fromfile(FPN)
    plain.search.budget.generations = 5
    plain.launcher, plain.work_dir = 'pytorch', str(tmp_path)
    assert cfg.to_dict() == plain.to_dict() and norms(cfg) == ['SyncBN'] * 3
    assert not torch.distributed.is_initialized() and not any(tmp_path.iterdir())


@pytest.mark.parametrize('launcher', ['none', 'pytorch'])
@pytest.mark.parametrize('cuda', [False, True])
def test_a_fitted_config_is_another_one(monkeypatch, launcher, cuda):
    monkeypatch.setattr(config_module, 'cuda_usable', lambda: cuda)
    cfg = Config.fromfile(FPN)
    cfg.launcher = launcher
    before = copy.deepcopy(cfg.to_dict())
    fitted = fit_to_machine(cfg)
    assert cfg.to_dict() == before
    assert norms(fitted) == ['SyncBN' if cuda and launcher == 'pytorch' else 'BN'] * 3
    without_gpu = launcher == 'pytorch' and not cuda
    assert fitted.env_cfg.dist_cfg.backend == ('gloo' if without_gpu else 'nccl')
    assert ('model_wrapper_cfg' in fitted) == without_gpu
    assert fit_to_machine(fitted).to_dict() == fitted.to_dict()
    fitted.model.neck.out_channels = fitted.search.seed = 'changed'
    assert cfg.to_dict() == before  # they share nothing
    assert not torch.distributed.is_initialized()


def test_a_config_of_nothing_but_a_search_fits_as_well():
    cfg = Config(dict(search=dict(seed=1)))
    assert fit_to_machine(cfg).search == cfg.search and set(cfg) == {'search'}
