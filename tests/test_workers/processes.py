"""Toy tasks, a driver that runs them, and queries for their processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from detnas_mm.registry import WORKERS, build_from
from detnas_mm.workers import Task, run_in_order, slurm

ROOT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).with_name('toy.py')


def toy_task(folder, name, steps=3, seconds=0.05, mishap='', time_limit=None):
    place = Path(folder) / name
    place.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, str(TOY), str(place), f'key of {name}', str(steps), str(seconds), mishap)
    return Task(f'key of {name}', command, place, time_limit)


def start(*command):
    """Starts a Python program that finds this package, in a session of its own."""
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    return subprocess.Popen([sys.executable, *map(str, command)], env=env, cwd=ROOT, start_new_session=True)


def start_driver(folder, count=1, seconds=0.05, **workers):
    """A process that runs three toy tasks and adds a line for each outcome to ``rows.jsonl``."""
    cfg = dict(type='LocalWorkers', count=count, gpus=[]) | workers
    return start('-m', 'tests.test_workers.processes', folder, json.dumps(cfg), seconds)


def rows(folder):
    return [json.loads(line) for line in (Path(folder) / 'rows.jsonl').read_text().splitlines()]


def of_folder(folder, *words):
    """Processes whose command line names a folder, and these words: their numbers."""
    found = []
    for entry in Path('/proc').iterdir():
        try:
            line = (entry / 'cmdline').read_bytes().decode() if entry.name.isdecimal() else ''
        except OSError:  # ended meanwhile
            continue
        if str(folder) in line and all(str(word) in line for word in words) and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def wait_for(condition, seconds=60):
    """Waits until something is true, and returns it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.01)
    return value


def survivors(folder, seconds=5):
    """Returns processes of a folder that still run after a while."""
    end = time.monotonic() + seconds
    while (left := of_folder(folder)) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def steps(task):
    """Returns the steps of the toy: process and step."""
    path = task.folder / 'steps.txt'
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


def one_at_a_time(task):
    """Returns True if no process made a step in a task's folder after another one had begun there."""
    pids = [pid for pid, _ in steps(task)]
    changes = sum(a != b for a, b in zip(pids, pids[1:]))
    return changes == len(set(pids)) - 1


def main(folder, cfg, seconds):
    workers = build_from(WORKERS, json.loads(cfg))
    slurm.ASK = 1.0
    toys = [toy_task(folder, f'c{i}', seconds=seconds, time_limit=workers.time_limit(None)) for i in range(3)]
    with (Path(folder) / 'rows.jsonl').open('w') as file:
        for outcome in run_in_order(workers, toys):
            file.write(json.dumps([outcome.result, outcome.lost]) + '\n')
            file.flush()


if __name__ == '__main__':
    main(*sys.argv[1:])
