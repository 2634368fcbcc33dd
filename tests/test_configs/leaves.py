"""Lists the leaf configs, those that are run."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Path of a config by its name.
LEAVES = {path.stem: path for path in sorted((ROOT / 'configs').glob('[!_]*/*.py'))}
#: Those of DetNAS, by what they do.
DETNAS = [name for name in LEAVES if name.startswith('detnas-')]
SEARCHES = [name for name in DETNAS if '_search' in name]
SUPERNETS = [name for name in DETNAS if '_supernet' in name]
NETS = [name for name in DETNAS if name not in SEARCHES and name not in SUPERNETS]
#: Those of MAE-DET.
MAEDET = [name for name, path in LEAVES.items() if path.parent.name == 'mae_det']
MAEDET_SEARCHES = [name for name in MAEDET if '_search' in name]
MAEDET_DIGITS = [name for name in LEAVES if name.startswith('maedet-digits_')]
MAEDET_NETS = [name for name in MAEDET if name not in MAEDET_SEARCHES]
#: Those of NATS and IC-Conv.
NATS = [name for name, path in LEAVES.items() if path.parent.name == 'nats']
NATS_SEARCHES = [name for name in NATS if name.startswith('nats-') and '_search_' in name]
NATS_PATHS = 'nats-r50_supernet-paths_fpn_coco'
NATS_EVOLUTION = 'nats-r50_search-evolution_fpn_coco'
NATS_MIXTURE = 'nats-r50_search-mixture_fpn_coco'
NATS_NETS = [name for name in NATS if name.startswith('nats-') and '_net_' in name]
NATS_DIGITS = [name for name in LEAVES if name.startswith('nats-digits_')]
IC_CONV = [name for name in NATS if name.startswith('ic-conv-')]
#: Those of SM-NAS.
SMNAS = [name for name, path in LEAVES.items() if path.parent.name == 'sm_nas']
SMNAS_STRUCTURAL = [name for name in LEAVES if name.startswith(('smnas_search-structural', 'smnas-digits_structural'))]
SMNAS_MODULAR = [name for name in LEAVES if name.startswith(('smnas_search-modular', 'smnas-digits_modular'))]
#: Those of EDO.
EDO = [name for name in LEAVES if name.startswith('edo-')]
EDO_SEARCHES = [name for name in EDO if '_search_' in name]
