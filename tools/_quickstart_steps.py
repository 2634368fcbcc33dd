"""Steps of the quickstart: each runs a config once, and is resumed or reused when it is asked for again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from detnas_mm.files import write_json, write_text
from detnas_mm.terminal import EVERY, Terminal, doing

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Size:
    """Optimiser steps of each training, and the size of the search."""

    supernet_cls: int = 1200
    supernet_det: int = 1200
    net_cls: int = 800
    net_det: int = 1000
    population: int = 20
    generations: int = 4
    digits: tuple[tuple[str, int], ...] = ()


SMALLEST = Size(
    60, 120, 30, 80, 4, 2,
    digits=(('num_train', 300), ('num_search_val', 60), ('num_test', 60), ('num_cls_train', 600),
            ('num_cls_search_val', 100), ('num_cls_test', 100)),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One run of the quickstart: its folder, detector, seed and size."""

    out: str
    detector: str
    seed: int
    size: Size

    @property
    def folder(self) -> Path:
        return Path(self.out)

    @property
    def digits(self) -> Path:
        return self.folder / 'digits'


terminal = sys.stdout


def say(text: str) -> None:
    print(f'[{time.strftime("%H:%M:%S")}] {text}', file=terminal, flush=True)
    silence.touch()


silence = Terminal(say, named_only=True)  # of each lane, and of the process that starts them


def begin_lane(plan: Plan) -> None:
    """Sets one thread (two such processes are faster than one with two threads) and opens the log file.

    Output of the libraries goes to the file, lines of :func:`say` to the terminal.
    """
    global terminal
    import torch

    from detnas_mm.compat import end_with_parent

    warnings.simplefilter('ignore')
    os.environ['TQDM_DISABLE'] = '1'  # bars would go to the file too
    silence.start()
    torch.set_num_threads(1)
    end_with_parent()
    terminal = os.fdopen(os.dup(1), 'w')
    log = os.open(plan.folder / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)


def load(plan: Plan, name: str, changes: dict[str, Any]) -> Any:
    """Returns a Digits config with changes, as it is written."""
    from mmengine.config import Config

    from detnas_mm.config_types import is_hook

    os.environ['DETNAS_DIGITS'] = str(plan.digits)
    cfg = Config.fromfile(ROOT / 'configs' / 'digits' / f'{name}.py')
    cfg.merge_from_dict(dict(changes, **{'randomness.seed': plan.seed, 'default_hooks.logger.interval': 200}))
    for hook in cfg.get('custom_hooks', ()):
        if is_hook(hook, 'detnas_mm.PathSamplingHook', cfg.get('default_scope')):
            hook['seed'] = plan.seed
    return cfg


def begin_step(plan: Plan, step: str, cfg: Any, init_cfg: dict | None) -> Path:
    """Returns the folder of a step; empties it if another config, other images or other weights made it."""
    digest = hashlib.sha256(repr(cfg.to_dict()).encode())
    inputs = [plan.digits / 'digits.json', *([init_cfg['checkpoint']] if init_cfg and 'checkpoint' in init_cfg else [])]
    for path in inputs:
        digest.update(Path(path).read_bytes())
    folder = plan.folder / step
    stamp = folder / 'made_from.sha256'
    if folder.exists() and not (stamp.exists() and stamp.read_text() == digest.hexdigest()):
        say(f'{step}: its settings or inputs have changed; it is run again')
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(stamp, digest.hexdigest())
    return folder


class Progress(Hook):
    """Prints every 20 seconds how long a training still takes."""

    def __init__(self, step: str) -> None:
        self.step = step

    def before_train(self, runner: Runner) -> None:
        self.begin = self.said = time.perf_counter()
        self.first = runner.iter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        done, total = runner.iter + 1, runner.max_iters
        now = time.perf_counter()
        if done < total and now - self.said >= EVERY - 5:  # before a line breaks the silence
            self.said = now
            left = (now - self.begin) / (done - self.first) * (total - done)
            say(f'{self.step}: {done:,}/{total:,} steps, loss {float(outputs["loss"]):.2f}, {left / 60:.1f} min left')


def train(plan: Plan, step: str, name: str, changes: dict[str, Any], steps: int) -> tuple[Path, float | None]:
    """Trains a config; returns its last checkpoint and, where it has a test set, the test score."""
    from detnas_mm.engine.config import fit_to_machine
    from detnas_mm.engine.resume import resume

    cfg = load(plan, name, dict(changes, **{'train_cfg.max_iters': steps}))
    folder = begin_step(plan, step, cfg, cfg.model.backbone.get('init_cfg'))
    done = folder / 'done.json'
    checkpoint = folder / f'iter_{steps}.pth'
    if done.exists() and checkpoint.exists():
        say(f'{step}: done before, reused')
        return checkpoint, json.loads(done.read_text())['score']
    cfg.work_dir = str(folder)
    resume(cfg)
    cfg.log_level = 'WARNING'
    begin = time.perf_counter()
    say(f'{step}: {"resumed" if cfg.resume else f"training for {steps:,} steps"} …')
    cfg.experiment_name = f'{step}-{os.getpid()}-{time.time_ns()}'
    with doing(step):
        runner = Runner.from_cfg(fit_to_machine(cfg))
        runner.register_hook(Progress(step), priority='LOWEST')
        runner.train()
    score, shown = None, ''
    if cfg.get('test_dataloader'):
        with doing(f'{step}: test'):
            metrics = runner.test()
        # COCO's metric returns nothing at all where there are no detections.
        score = next((v for k, v in metrics.items() if k in ('coco/bbox_mAP', 'accuracy/top1')), 0.0)
        shown = f', test top-1 {score:.1f} %' if 'accuracy/top1' in metrics else f', test mAP {score:.3f}'
    write_json(done, dict(score=score))
    say(f'{step}: done in {(time.perf_counter() - begin) / 60:.1f} min{shown}')
    return checkpoint, score


def backbone_from(checkpoint: Path) -> dict[str, Any]:
    """Returns changes of a config that start its backbone from a pre-trained classifier."""
    init = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.')
    return {f'model.backbone.init_cfg.{key}': value for key, value in init.items()}
