"""The configs that are there to be run."""

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
