"""A study from its plan to its page, stage by stage; each stage does only what is not done.

    conductor = Conductor(study, announce)
    conductor.prepare()   # the text; the backbone, healed and frozen; its hidden states
    conductor.tune()      # every arm in every regime
    conductor.fit()       # every arm for every seed, or a share of the fits
    conductor.judge()     # the held-out losses, when all fits are done
    conductor.report()    # results.json, tables, page

A stage that was interrupted goes on where its files end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import torch

from quantum_hybrid.backbone import prepare_embedded
from quantum_hybrid.config import EMBEDDED
from quantum_hybrid.errors import CheckpointError, Interrupted, QuantumHybridError, UsageError
from quantum_hybrid.processes.cores import usable_cores
from quantum_hybrid.report.study_page import write_study_page, write_study_tables
from quantum_hybrid.report.study_results import StudyResults
from quantum_hybrid.student import answer_targets
from quantum_hybrid.study.clock import Clock, introduction
from quantum_hybrid.study.execution import Done, execute
from quantum_hybrid.study.fits.fit import BATCH_ROWS
from quantum_hybrid.study.fits.planted import plant
from quantum_hybrid.study.folder import RESUMABLE, StudyFolder
from quantum_hybrid.study.ground.corpus import PARTS, Corpus, Part, gather
from quantum_hybrid.study.ground.healing import Backbone, require_base_model
from quantum_hybrid.study.ground.hidden_states import HiddenStates, keep_hidden_states
from quantum_hybrid.study.looks import Looks
from quantum_hybrid.study.regimes import GROUNDS, REGIMES, GroundName
from quantum_hybrid.study.results import COMPLETE, results_of, write_results
from quantum_hybrid.study.tasks import Kind, Task, tasks_of
from quantum_hybrid.text import Example

Executor = Callable[[StudyFolder, Sequence[Task], Done], None]
"""Runs tasks that are not done, where there is room for them."""


class Conductor:
    """Takes a study through its stages."""

    def __init__(
        self,
        study: StudyFolder,
        announce: Callable[[str], None],
        executor: Executor = execute,
        *,
        keeps_page: bool = True,
    ) -> None:
        """keeps_page: write the page of what there is so far, again and again."""
        self.study, self._announce, self._execute = study, announce, executor
        self._keeps_page = keeps_page
        self._tasks = tasks_of(study.plan)

    def introduce(self) -> None:
        """Say what the study is going to do, and how long that will take."""
        self.say(f"study     {self.study.path}")
        for line in introduction(self.study.plan, self._tasks):
            self.say(line)
        self.say(f"page      {self.study.page}: it reloads itself until all is done")

    def prepare(self) -> None:
        """Gather the text, heal the backbone and keep the hidden states."""
        corpus = self._corpus()
        study = self.study
        needed = {REGIMES[one].ground for one in study.plan.regimes}
        if "planted" in needed:
            needed.add("healed")
        missing: list[GroundName] = [
            one for one in GROUNDS if one in needed and not study.ground(one).exists()
        ]
        if missing and study.plan.base_model_name == EMBEDDED:
            prepare_embedded(self.say)
        if missing:
            study.add_program()
        for ground in missing:
            if ground == "planted":
                self._plant()
            else:
                self._keep_states(corpus, study.ground(ground), is_healed=ground == "healed")

    def tune(self) -> None:
        """Tune every arm in every regime."""
        self._run(self._of("tune"), "tuning the arms")

    def fit(self, share: slice = slice(None)) -> None:
        """Train every arm for every seed, or for a share of the fits."""
        self._run(self._of("fit")[share], "training the arms")

    def tune_and_fit(self) -> None:
        """Both: the fits of a regime start when it is tuned."""
        self._run([*self._of("tune"), *self._of("fit")], "tuning and training the arms")

    def judge(self) -> None:
        """Open the held-out part. Raises `UsageError` if a fit is missing."""
        study = self.study
        if missing := [str(task) for task in self._of("fit") if not task.is_done(study)]:
            raise UsageError(
                f"{study.path}: {len(missing)} of {len(self._of('fit'))} fits are missing, such as "
                f"{missing[0]}; the held-out part is opened when all are done"
            )
        looks = Looks(study, Corpus.read(study.text).held_out_digests)
        if not all(task.is_done(study) for task in self._of("judge")):
            looks.begin()
            self._run(self._of("judge"), "computing the held-out losses")
        looks.end()

    def report(self) -> StudyResults:
        """Write all results, the tables and the page."""
        results = results_of(self.study, COMPLETE)
        write_results(self.study, results)
        write_study_tables(results, self.study.path)
        write_study_page(results, self.study.page)
        return results

    def say(self, line: str) -> None:
        """Print and log a line."""
        self.study.log(line)
        self._announce(line)

    @contextmanager
    def stopping_in_order(self) -> Iterator[None]:
        """Stop at a signal or an error with a page of what there is.

        Errors that leave the study resumable say so: `resumable_run`, and exit status `RESUMABLE`.
        """
        try:
            with _raising_at_signals():
                yield
        except QuantumHybridError as error:
            # The disk may be full, or a file damaged; the error itself is told anyway.
            with suppress(OSError, CheckpointError):
                self.study.log(f"error: {error}")
                self._page("stopped")
            if not isinstance(error, UsageError | CheckpointError):
                error.resumable_run = self.study.path
                if not isinstance(error, Interrupted):
                    error.exit_status = RESUMABLE
            raise

    def _of(self, kind: Kind) -> list[Task]:
        return [task for task in self._tasks if task.kind == kind]

    def _corpus(self) -> Corpus:
        if self.study.text.exists():
            return Corpus.read(self.study.text)
        require_base_model(self.study.plan)
        self._page("gathering the text")
        with self._timed("text"):
            corpus = gather(self.study.plan, self.say)
            corpus.write(self.study.text)
        return corpus

    def _keep_states(self, corpus: Corpus, folder: Path, *, is_healed: bool) -> None:
        """Compute and keep the hidden states of the healed, or of the pruned backbone."""
        torch.set_num_threads(usable_cores())
        backbone = Backbone(self.study.plan)
        longest = self.study.plan.longest_unit
        parts: dict[Part, list[Example]] = {
            part: [unit.example(backbone.encoder, longest) for unit in corpus.parts[part]]
            for part in PARTS
        }
        self._check_size(parts["training"])
        if is_healed:
            self._heal(backbone, parts["training"])
        self._page("computing the hidden states")
        self.say(f"states    of {sum(map(len, parts.values()))} {corpus.unit}s are computed")
        with self._timed("hidden states"):
            backbone.freeze()
            keep_hidden_states(backbone.student, parts, folder, healed=is_healed)

    def _plant(self) -> None:
        """Draw the next tokens of the positive control."""
        self._page("planting the positive control")
        with self._timed("planting"):
            healed = HiddenStates(self.study.ground("healed"))
            plant(self.study.plan, healed, self.study.ground("planted"))

    def _check_size(self, training: list[Example]) -> None:
        """Raise `UsageError` if a seed may see less than a batch."""
        _, example = answer_targets(training)
        lengths = torch.bincount(example, minlength=len(training)).sort().values
        n_tokens = int(lengths[: len(training) // 2].sum())
        if n_tokens < BATCH_ROWS:
            raise UsageError(
                f"plan: training {len(training)}: a seed sees half of these units, which may have "
                f"{n_tokens} tokens; must be at least {BATCH_ROWS}"
            )

    def _heal(self, backbone: Backbone, training: list[Example]) -> None:
        if self.study.healed.exists():
            backbone.read(self.study.healed)
            return
        self._page("healing the backbone")
        with self._timed("healing"):
            backbone.heal(training, self.say)
            backbone.write(self.study.healed)

    def _run(self, tasks: Sequence[Task], stage: str) -> None:
        study = self.study
        left = [task for task in tasks if not task.is_done(study)]
        if not left:
            return
        study.add_program()
        ground = study.ground_of(study.plan.regimes[0])
        n_words = len(HiddenStates(ground).decoder())
        clock = Clock(left, study.plan, n_words)
        self.say(f"{stage}: {len(left)} tasks, {clock.to_go()}")
        self._page(stage)

        def done(task: Task, seconds: float) -> None:
            clock.done(task)
            study.add_time(f"{task.kind} {task.regime}", seconds)
            self.say(f"done      {task} in {seconds:.0f} s; {clock.to_go()}")
            self._page(stage)

        self._execute(study, left, done)

    def _page(self, stage: str) -> None:
        """Write the page of what there is so far."""
        if self._keeps_page:
            write_study_page(results_of(self.study, stage), self.study.page)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.study.add_time(stage, time.monotonic() - started)


@contextmanager
def _raising_at_signals() -> Iterator[None]:
    """Raise `Interrupted` at SIGINT and SIGTERM; a second signal has its default effect."""
    caught = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in caught}

    def stop(number: int, frame: FrameType | None) -> None:
        for one in caught:
            signal.signal(one, signal.SIG_DFL)
        raise Interrupted(f"stopped by {signal.Signals(number).name}", number)

    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])
