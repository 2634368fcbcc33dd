"""Inputs of both trees, made once with BASE's code: Digits, a supernet per detector, latency tables."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from golden.trees import Tree, side_by_side

DIGITS = dict(
    train=200, search_val=60, test=20, cls_train=600, cls_search_val=100, cls_test=50,
)  # fmt: skip
#: Classes of the project with its own classes, and the digits of each.
OWN_CLASSES = dict(low='0123', middle='456', high='789')
#: Iterations of each supernet: enough for candidates to differ.
STEPS = dict(cls=120, retinanet=260, fpn=140, own=120)

_OWN_SUPERNET = """
_base_ = 'detnas_mm::digits/detnas-digits_supernet_retinanet.py'
model = dict(bbox_head=dict(num_classes=3))
train_dataloader = dict(
    dataset=dict(
        metainfo=dict(_delete_=True, classes=('low', 'middle', 'high')), ann_file='$INPUTS/own/instances_train.json'
    ),
)
"""

#: A part of the structure space of the Digits config, whose tables are measured in seconds.
STRUCTURES = """
_base_ = '$CONFIGS/digits/maedet-digits_search_retinanet.py'
search = dict(
    space=dict(
        space=dict(_delete_=True, strides=[2, 2, 2, 2], stem_widths=[8, 16], widths=[16, 128], growth=[1, 4],
                   depths=[1, 3]),
    ),
    costs=dict(latency=dict(type='StructureLatency', file='$INPUTS/structures/table.json', input_size=(96, 96))),
)
"""


@dataclass(frozen=True)
class Input:
    """An input that is made once.

    Attributes:
        make: Makes it in an empty folder.
        needs: Names of the inputs that it depends on.
    """

    make: Callable[[Inputs, Path], None]
    needs: tuple[str, ...] = ()


class Inputs:
    """Makes the inputs of cases with BASE's code, each once.

    Args:
        folder: Folder of all inputs, each below its name.
        tree: Returns BASE's tree, when an input must be made.
        jobs: Number of inputs made in parallel.
        say: Called with lines of text.
    """

    def __init__(self, folder: Path, tree: Callable[[], Tree], jobs: int, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.tree = tree
        self.jobs = jobs
        self.say = say

    def prepare(self, names: Iterable[str]) -> None:
        """Makes these inputs and their dependencies, if they are missing.

        Raises:
            RunError: If a program fails.
        """
        wanted: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            wanted.add(name)
            left += INPUTS[name].needs
        while missing := sorted(name for name in wanted if not self._stamp(name).exists()):
            ready = [name for name in missing if all(self._stamp(need).exists() for need in INPUTS[name].needs)]
            side_by_side(self.jobs, self._make, ready)

    def checkpoint(self, name: str) -> Path:
        """Returns the checkpoint of the trained supernet of that name."""
        return self.folder / name / f'iter_{STEPS[name]}.pth'

    def write(self, text: str, path: Path, tree: Tree, **more: str) -> Path:
        """Writes a config; replaces ``$CONFIGS`` and ``$INPUTS`` by folders, other names by the given values."""
        path.write_text(Template(text).substitute(CONFIGS=tree.configs, INPUTS=self.folder, **more))
        return path

    def _stamp(self, name: str) -> Path:
        return self.folder / f'{name}.made'

    def _make(self, name: str) -> None:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.say(f'making {name} …')
        INPUTS[name].make(self, folder)
        self._stamp(name).touch()


def _make_digits(inputs: Inputs, folder: Path) -> None:
    tree = inputs.tree()
    counts = [f'--num-{part.replace("_", "-")}={count}' for part, count in DIGITS.items()]
    script = tree.root / 'tools/dataset_converters/make_digits.py'
    tree.run([sys.executable, script, folder, '--no-progress', *counts], folder.parent, folder.with_suffix('.log'))


def _train(name: str, start: bool = True) -> Callable[[Inputs, Path], None]:
    """Trains one of the Digits supernets from the weights of the classification supernet."""

    def make(inputs: Inputs, folder: Path) -> None:
        tree = inputs.tree()
        config = tree.configs / f'digits/detnas-digits_supernet_{name}.py'
        if name == 'own':
            _write_own_annotations(inputs.folder)
            config = inputs.write(_OWN_SUPERNET, folder / 'supernet.py', tree)
        options = [f'train_cfg.max_iters={STEPS[name]}']
        if start:
            begin = dict(type='Pretrained', prefix='backbone.', checkpoint=inputs.checkpoint('cls'))
            options += [f'model.backbone.init_cfg.{key}={value}' for key, value in begin.items()]
        script = tree.root / 'tools/train.py'
        command = [sys.executable, script, config, '--work-dir', folder, '--cfg-options', *options]
        tree.run(command, folder, folder.with_suffix('.log'))

    return make


def _write_own_annotations(inputs: Path) -> None:
    """Writes the digits' boxes with the classes of a project of its own."""
    numbers = {digit: number for number, digits in enumerate(OWN_CLASSES.values(), 1) for digit in digits}
    for split in ('train', 'search_val'):
        found = json.loads((inputs / f'digits/annotations/instances_{split}.json').read_text())
        names = {category['id']: category['name'] for category in found['categories']}
        found['categories'] = [dict(id=number, name=name) for number, name in enumerate(OWN_CLASSES, 1)]
        for box in found['annotations']:
            box['category_id'] = numbers[names[box['category_id']]]
        (inputs / f'own/instances_{split}.json').write_text(json.dumps(found))


def _measure_paths(inputs: Inputs, folder: Path) -> None:
    tree = inputs.tree()
    config = tree.configs / 'digits/detnas-digits_search-latency_retinanet.py'
    _measure(tree, folder, [config, inputs.checkpoint('retinanet'), '--part', 'detector', '--input-size', '96', '96'])


def _measure_structures(inputs: Inputs, folder: Path) -> None:
    tree = inputs.tree()
    _measure(tree, folder, [inputs.write(STRUCTURES, folder / 'search.py', tree), '--grid', '2'])


def _measure(tree: Tree, folder: Path, arguments: list[str | Path]) -> None:
    """Measures a table in few rounds: it need not be precise, only the same for both trees."""
    script = tree.root / 'tools/analysis_tools/measure_latency.py'
    pace = ['--device', 'cpu', '--threads', str(tree.threads), '--rounds', '2', '--nets', '2']
    command = [sys.executable, script, *arguments, *pace, '--out', folder / 'table.json', '--work-dir', folder]
    tree.run(command, folder, folder.with_suffix('.log'))


INPUTS = dict(
    digits=Input(_make_digits),
    cls=Input(_train('cls', start=False), ('digits',)),
    retinanet=Input(_train('retinanet'), ('digits', 'cls')),
    fpn=Input(_train('fpn'), ('digits', 'cls')),
    own=Input(_train('own'), ('digits', 'cls')),
    paths=Input(_measure_paths, ('digits', 'retinanet')),
    structures=Input(_measure_structures),
)
