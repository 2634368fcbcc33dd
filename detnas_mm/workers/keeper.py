"""Runs one command, and ends all processes of its group when the command or the driver has ended.

A program by itself, which imports nothing of this package: ``python -I -S keeper.py COMMAND…``, started as the leader
of a session. Its standard input is a pipe that the driver keeps open and never writes to. On its standard output it
writes one line of JSON about the end of the command. The command's output goes to its standard error.

Whichever process is killed, all others end. When the driver is killed, the pipe closes. When the command is killed, the
keeper ends its group. When the keeper is killed, the driver ends the group, and on Linux the kernel ends the command.
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

#: Seconds between checks that the driver lives, in case another process has a copy of its end of the pipe.
_LOOK = 1.0
_PR_SET_PDEATHSIG = 1


def _end_with(parent: int, prctl: Callable[..., int] | None) -> None:
    """Has the kernel kill this process when its parent ends; runs between fork and exec."""
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def keep(command: list[str]) -> dict:
    """Runs a command until it or the driver ends; returns its status and peak memory, JSON-ready."""
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
