"""Runs one command; ends it, and all processes of its group, when the command or the driver has ended.

A program by itself, which imports nothing of this package: ``python -I -S keeper.py COMMAND…``, started as the leader
of a session. Its standard input is a pipe that the driver keeps open and never writes to; on its standard output it
says in one line of JSON how the command has ended; what the command prints goes to its standard error.

Whoever is killed, the rest ends: of a killed driver the pipe closes; a killed command is waited for; a killed keeper is
noticed by the driver, which ends the group, and on Linux by the kernel, which ends the command with it.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable

#: Seconds between looks at whether the driver lives, should a copy of its end of the pipe be open elsewhere.
_LOOK = 1.0
_PR_SET_PDEATHSIG = 1


def _end_with(parent: int, prctl: Callable[..., int] | None) -> None:
    """Has the kernel kill this process when its parent ends; runs between fork and exec."""
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def keep(command: list[str]) -> dict:
    """Runs a command until it ends or the driver does; how it has ended, as JSON-ready values."""
    driver, me = os.getppid(), os.getpid()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    prctl = getattr(ctypes.CDLL(None), 'prctl', None) if sys.platform == 'linux' else None
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, preexec_fn=lambda: _end_with(me, prctl))
    except OSError as error:
        return dict(refused=f'{command[0]}: {error.strerror}')
    while child.poll() is None:
        readable = select.select([0, woken], [], [], _LOOK)[0]
        if 0 in readable or os.getppid() != driver:
            break
        if readable:
            os.read(woken, 512)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # kilobytes; bytes on macOS
    return dict(status=child.returncode, memory=peak if sys.platform == 'darwin' else peak * 1024)


if __name__ == '__main__':
    line = json.dumps(keep(sys.argv[1:])).encode() + b'\n'
    with contextlib.suppress(BrokenPipeError):
        os.write(1, line)
    os.killpg(0, signal.SIGKILL)  # this process, too
