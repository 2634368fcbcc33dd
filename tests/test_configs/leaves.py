"""The configs that are there to be run."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Path of a config by its name.
LEAVES = {path.stem: path for path in sorted((ROOT / 'configs').glob('[!_]*/*.py'))}
SEARCHES = [name for name in LEAVES if '_search' in name]
SUPERNETS = [name for name in LEAVES if '_supernet' in name]
NETS = [name for name in LEAVES if name not in SEARCHES and name not in SUPERNETS]
