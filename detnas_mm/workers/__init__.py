"""Workers: what runs commands in processes of their own, on this machine or on a cluster. Imports no torch."""

from detnas_mm.workers.base import Outcome, Task, Workers
from detnas_mm.workers.folder import FolderInUse, hold, read_result, write_result
from detnas_mm.workers.local import LocalWorkers
from detnas_mm.workers.retries import WorkersBroken, run_in_order
from detnas_mm.workers.slurm import SlurmWorkers

__all__ = [
    'FolderInUse',
    'LocalWorkers',
    'Outcome',
    'SlurmWorkers',
    'Task',
    'Workers',
    'WorkersBroken',
    'hold',
    'read_result',
    'run_in_order',
    'write_result',
]
