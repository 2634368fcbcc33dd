"""Shows the progress of running trainings: a line in the log, or a progress bar."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from detnas_mm.evaluators.training.folder import Candidate, key_of, read_progress
from detnas_mm.search import counted
from detnas_mm.workers import read_result

if TYPE_CHECKING:
    from detnas_mm.search import SearchJob

#: Seconds between two lines; a bar moves more often.
EVERY, EVERY_OF_BAR = 25.0, 2.0


class Watched:
    """Context manager that shows the progress of trainings at least every half minute.

    Args:
        job: The search.
        candidates: Candidates that are trained.
        until: Rung that they are trained to; None for the end.
    """

    def __init__(self, job: SearchJob, candidates: Sequence[Candidate], until: int | None) -> None:
        self.job, self.candidates, self.until = job, candidates, until
        self._done = 0
        self._over = threading.Event()
        self._bar: tqdm | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watched:
        if self.candidates:
            if self.job.show_progress:
                what = 'training' if self.until is None else f'training to {self.until}'
                self._bar = tqdm(total=len(self.candidates), unit='net', desc=what, position=1, leave=False)
            self._thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._bar is not None:
            self._bar.close()

    def finished(self) -> None:
        """Counts one more finished training."""
        self._done += 1

    def line(self) -> str:
        """Returns a line about the progress of all trainings."""
        going = []
        finished = 0
        for candidate in self.candidates:
            if read_result(candidate.folder, key_of(candidate.work, self.until)) is not None:
                finished += 1
                continue
            noted = read_progress(candidate.folder)
            if noted.get('work') == candidate.work:
                going.append(f'{candidate.id} {noted["done"]:.4g}/{noted["until"]} {noted["unit"]}')
        under_way = f'; running: {", ".join(going[:8])}{" …" if len(going) > 8 else ""}' if going else ''
        return f'{max(finished, self._done):,} of {counted(len(self.candidates), "training")} finished{under_way}'

    def _watch(self) -> None:
        while not self._over.wait(EVERY if self._bar is None else EVERY_OF_BAR):
            if self._bar is None:
                self.job.log(self.line())
            else:
                self._bar.n = self._done
                self._bar.set_postfix_str(self.line().partition('running: ')[2])
