"""Workers that measure the latency of whole nets on paper, in no time, and fixtures with them."""

import json

import numpy as np
import pytest
from mmengine.config import Config

from detnas_mm.latency.whole import SESSION
from detnas_mm.registry import WORKERS
from detnas_mm.search import SearchJob
from detnas_mm.workers import Outcome, Workers
from tests.test_toys.detectors import DetectorSpace, search_config

SPACE = DetectorSpace()


ARCHS = [SPACE.parse(text) for text in ('RetinaHead@64', 'GFLHead@64', 'RetinaHead@96', 'GFLHead@96')]


VERSIONS = dict(torch='2.10.0', mmcv='2.3.6', mmdet='3.5.1', detnas_mm='0.1.0')


@WORKERS.register_module(force=True)
class PaperWorkers(Workers):
    """Fake measurements: 1 ms per 100 pixels, times ``pace``, times 1.5 for GFL."""

    pace = 1.0
    lost = 0
    machine = dict(device=dict(kind='cpu', name='Analytical Engine', threads=1), versions=VERSIONS)
    unlike = dict.fromkeys(map(SPACE.describe, ARCHS), 1.0)
    failing: dict = {}  # by the name of a net: why it fails
    hung = None
    sessions: list = []

    def __init__(self):
        super().__init__(1, 1)

    def end_others(self, tasks):
        type(self).kept = [task.folder for task in tasks]

    def run(self, tasks):
        (task,) = tasks
        assert self.kept == [task.folder], 'what a killed search has left is ended'
        asked = json.loads((task.folder / SESSION).read_text())
        type(self).sessions.append([net['arch'] for net in asked['nets']])
        if self.lost:
            type(self).lost -= 1
            yield 0, Outcome(None, 'killed by signal 9 (SIGKILL)')
            return
        names = [net['arch'] for net in asked['nets']]
        if any(self.failing.get(name) == 'killed' for name in names):
            yield 0, Outcome(None, 'killed by signal 9 (SIGKILL)')
            return
        if self.hung in names:
            result = dict(hung=f'measuring {self.hung}', key=task.key)
            (task.folder / 'result.json').write_text(json.dumps(result))
            yield 0, Outcome(result)
            return
        nets, failed = {}, {}
        for number, net in enumerate(asked['nets']):
            reason = self.failing.get(net['arch'])
            if reason == 'out of memory beside others':
                reason = 'out of memory' if len(names) > 2 else None
            if reason:
                failed[net['key']] = reason
                continue
            model = Config.fromfile(task.folder / f'net_{number}.py').model
            ms = np.prod(net['input_size']) / 100 * (1.5 if model.type == 'GFL' else 1)
            ms *= self.pace * self.unlike[net['arch']]
            nets[net['key']] = dict(ms=ms, iqr_ms=ms / 100, boxes=100)
        result = dict(machine=self.machine, clock='paper', load=[0.5, 0.75], nets=nets, failed=failed)
        (task.folder / 'result.json').write_text(json.dumps(result))
        yield 0, Outcome(result, worker='paper')


@pytest.fixture(autouse=True)
def paper(monkeypatch):
    for name, value in dict(pace=1.0, lost=0, failing={}, hung=None, sessions=[]).items():
        monkeypatch.setattr(PaperWorkers, name, value)


@pytest.fixture
def prepared(tmp_path, digits_folder):
    """A search by latency, prepared; and the lines that it logs."""

    def prepare(file='latency.json', constraints=(), **changes):
        lines = []
        cost = dict(type='NetLatency', file=str(tmp_path / file), workers=dict(type='PaperWorkers')) | changes
        cfg = search_config(tmp_path / 'search', costs=dict(latency=cost), constraints=list(constraints))
        job = SearchJob.from_config(cfg, lines.append)
        job.prepare()
        return job, job.budget.cost_model('latency'), lines

    return prepare


def measured(*lists):
    return [names for names in PaperWorkers.sessions if names] == [list(map(SPACE.describe, one)) for one in lists]
