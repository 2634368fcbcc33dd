"""Workers run commands in processes of their own, on this machine or on a cluster. Imports no torch."""

from detnas_mm.workers.base import Outcome, Task, Workers
from detnas_mm.workers.failures import OUT_OF_MEMORY, failure_of
from detnas_mm.workers.folder import FolderInUse, hold, read_result, write_result
from detnas_mm.workers.local import LocalWorkers
from detnas_mm.workers.retries import WorkersBroken, run_in_order
from detnas_mm.workers.slurm import SlurmWorkers
from detnas_mm.workers.watchdog import Watchdog

__all__ = [
    'OUT_OF_MEMORY',
    'FolderInUse',
    'LocalWorkers',
    'Outcome',
    'SlurmWorkers',
    'Task',
    'Watchdog',
    'Workers',
    'WorkersBroken',
    'failure_of',
    'hold',
    'read_result',
    'run_in_order',
    'write_result',
]
