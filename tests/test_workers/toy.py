"""A training of no stack, for tests of workers: counts in steps, keeps its place, has a helper process of its own.

``python toy.py FOLDER KEY STEPS SECONDS [MISHAP]``: the mishap ``die`` has it killed at each start.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from detnas_mm.files import write_json
from detnas_mm.workers.folder import hold, read_result, write_result


def main(folder, key, steps, seconds, mishap=''):
    folder = Path(folder)
    with hold(folder):
        if read_result(folder, key) is not None:
            return
        sleep = 'import time; time.sleep(600)'
        helper = subprocess.Popen([sys.executable, '-I', '-S', '-c', sleep, 'helper', str(folder)])
        place = folder / 'place.json'
        step, total = json.loads(place.read_text()) if place.exists() else (0, 0.1)
        while step < int(steps):
            with (folder / 'steps.txt').open('a') as file:
                file.write(f'{os.getpid()} {step}\n')
            if mishap == 'die':
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(float(seconds))
            step, total = step + 1, (total * 1.7 + sum(key.encode())) % 1.3
            write_json(place, [step, total])
        helper.kill()
        seen = {name: os.environ.get(name) for name in ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES')}
        write_result(folder, key, dict(total=total, seen=seen))


if __name__ == '__main__':
    main(*sys.argv[1:])
