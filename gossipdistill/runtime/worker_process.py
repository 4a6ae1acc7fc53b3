"""One worker process from its specification to its result: learner and network are put together here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch

from gossipdistill.assembly.blaming import explained
from gossipdistill.assembly.examining import Examiner
from gossipdistill.assembly.publishing import refuse_unsendable
from gossipdistill.assembly.worker import Parts
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.drivers.network_thread import NetworkThread
from gossipdistill.drivers.overload.resources import ask_for_files
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.drivers.zeromq.faulty import FaultySender
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.durable import CheckpointFolder, Disk
from gossipdistill.errors import GossipdistillError
from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.keys.choice import INSECURE
from gossipdistill.keys.joining import read_join
from gossipdistill.keys.watching import KeyWatch
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.live_validation import LiveValidation
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.observe.dealt import data_words
from gossipdistill.observe.recorder import Recorder
from gossipdistill.observe.records import ExamplesRecord, PeerRecord
from gossipdistill.observe.told import Phase, Ready, Report
from gossipdistill.presence import Contact
from gossipdistill.protocol.boots import highest_at
from gossipdistill.protocol.membership import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.runtime.folder_lock import FolderLock, hold_folder
from gossipdistill.runtime.injected_faults import InjectedFaults
from gossipdistill.runtime.peer_files import CHECKPOINTS, PeerFiles, needed
from gossipdistill.runtime.release import Release
from gossipdistill.runtime.resuming import Resumption, resume
from gossipdistill.runtime.run_clock import RunClock
from gossipdistill.runtime.saving import Checkpoints, Saver
from gossipdistill.runtime.session import Session
from gossipdistill.runtime.start_barrier import StartBarrier
from gossipdistill.runtime.start_count import StartCount
from gossipdistill.runtime.stopping import StopRequest
from gossipdistill.runtime.watchdog import Watchdog
from gossipdistill.runtime.welcome import OutgrownError, Welcome
from gossipdistill.tasks import Task
from gossipdistill.tasks import figures as figures_of
from gossipdistill.training.joining import give_to_newcomers, is_newcomer
from gossipdistill.training.worker import Worker
from gossipdistill.user_code import text_of

_ABOVE_TIMES = 2
"""At most this many times a process begins again because others know a later start of its name."""


@dataclass
class WorkerProcess:
    """Runs one peer. `report` takes records for the launcher; `released` is set when training may begin."""

    spec: WorkerSpec
    report: Report
    stop: StopRequest
    released: Release
    disk: Disk = field(default_factory=Disk)
    watchdog: Watchdog = field(default_factory=Watchdog)

    def run(self) -> PeerRecord:
        """Run the peer from building the model to the end. Returns its result, which is also on disk.

        Raises:
            GossipdistillError: when this peer cannot take part; the message is for the user.
        """
        with hold_folder(self.spec.folder, self.spec.name) as lock, contextlib.ExitStack() as watched:
            watched.callback(self.watchdog.stop)
            above, highest = 0, highest_at(time.time())
            for _ in range(_ABOVE_TIMES):
                try:
                    return self._run(lock, above, highest)
                except OutgrownError as error:
                    above = error.boot
            return self._run(lock, above, 0)

    def _phase(self, text: str) -> None:
        """Report what this process does before its first step."""
        self.report(Phase(text))

    def _live(self, worker: Worker) -> LiveValidation:
        figures = partial(figures_of, worker.task, lenient=True)
        rows = self.spec.config.train.batch_size
        return LiveValidation(worker.learner, worker.task.validation, figures, time.monotonic, rows)

    def _run(self, lock: FolderLock, above: int, outgrow_max: int) -> PeerRecord:
        """Run with a boot number above `above`."""
        spec = self.spec
        torch.set_num_threads(spec.threads)
        ask_for_files(DEFAULT_LIMITS.files_wanted)
        parts = Parts.of(spec, tell=self._phase)
        task, learner = parts.task, parts.learner
        refuse_unsendable(spec, parts.strategy, task, learner.model)
        prints = parts.fingerprint()
        files, folder = PeerFiles(spec.folder, self.disk), self._checkpoints()
        found = self._resume(folder, learner)
        resumed = found.checkpoint
        with needed(spec.folder):
            highest = max(folder.highest_boot(), above)
            start_count = StartCount.next(spec.folder, not spec.resume, highest, self.disk)
        folder.boot = start_count.boot
        network = NetworkThread()
        injected = InjectedFaults(spec.faults, spec.names, spec.name, lambda: self.released.began_s)
        driver = self._driver(network, start_count.boot, prints, injected)
        with Recorder(spec.folder, self.report, time.monotonic(), disk=self.disk) as recorder:
            self._begin_files(recorder, files, folder)
            unwatched = self.watchdog.start()
            driver.heartbeat = self.watchdog.heartbeat
            network.start(driver)
            watch = self._watch_keys(network)
            try:
                worker = parts.worker(network.mailbox)
                if resumed is not None:
                    worker.resume(resumed)
                self._record_start(recorder, learner, start_count, found, [lock.problem, unwatched])
                examiner = Examiner(worker, spec.config.train, plan=spec.faults)
                self._phase("looking at its model before the first step")
                examiner.begin(spec.config.steps, resumed is not None)
                self._report_ready(prints, learner, task)
                clock = RunClock.after(resumed.progress if resumed is not None else {}, spec.config, self.released)
                checkpoints = Checkpoints(worker, spec.config, Saver(folder), clock, start_count.count)
                welcome = Welcome(spec.name, start_count.boot, outgrow_max)
                session = Session(
                    spec,
                    self.report,
                    self.stop,
                    worker,
                    network,
                    driver,
                    recorder,
                    start_count.count,
                    injected,
                    clock,
                    checkpoints,
                    files,
                    examiner,
                    self._live(worker),
                    welcome,
                )
                barrier = StartBarrier(spec, self.report, self.stop, self.released, network.mailbox, recorder, welcome)
                barrier.wait(session.look)
                self._catch_up(session, barrier, resumed)
                return session.train_and_serve()
            except Exception as error:
                shown = explained(error, task, learner, spec, network.mailbox)
                if shown is not error or not isinstance(error, GossipdistillError):  # else: the user or another peer
                    network.stop(text_of(error.__cause__ or error), crashed=True)
                if shown is error:
                    raise
                raise shown from error.__cause__ or error
            finally:
                files.end()
                if watch is not None:
                    watch.stop()
                network.stop(self.stop.reason or "finished")

    def _resume(self, folder: CheckpointFolder, learner: Learner) -> Resumption:
        if not self.spec.resume:
            return Resumption()
        self._phase("looking for its checkpoint")
        anew = "without --resume" if self.spec.released_by_launcher else "with --fresh"
        return resume(folder, learner, self.spec.resolved, anew)

    def _begin_files(self, recorder: Recorder, files: PeerFiles, folder: CheckpointFolder) -> None:
        with needed(self.spec.folder):
            recorder.prepare()
            files.begin(self.spec.resolved.as_json())
            if not self.spec.resume:
                folder.clear()

    def _record_start(
        self, recorder: Recorder, learner: Learner, start_count: StartCount, found: Resumption, problems: list[str]
    ) -> None:
        problems = [INSECURE if self.spec.insecure else "", *problems]
        for event in _told_at_start(learner, start_count, found, filter(None, problems)):
            recorder.record(event)

    def _checkpoints(self) -> CheckpointFolder:
        spec = self.spec
        identity = {"peer": spec.name, "task": spec.config.task.name}
        return CheckpointFolder(spec.folder / CHECKPOINTS, identity, spec.config.train.checkpoints_kept, disk=self.disk)

    def _catch_up(self, session: Session, barrier: StartBarrier, resumed: Checkpoint | None) -> None:
        """A newcomer to a run in progress begins with the model of another peer, if one can give it."""
        worker, keys = session.worker, self.spec.config.exchange
        gives = give_to_newcomers(worker.gossip, keys.given_bytes_per_s) and barrier.run_is_in_progress()
        if gives and is_newcomer(resumed, time.time(), keys.fetch_if_older_s):
            self._phase("asking the others for their model")
            session.catch_up(keys.fetch_within_s)

    def _report_ready(self, prints: dict[str, str], learner: Learner, task: Task) -> None:
        parameters = sum(parameter.numel() for parameter in learner.model.parameters())
        told = ""
        if not self.spec.released_by_launcher:  # a launcher has reported it for all
            keys = self.spec.config.task
            classes = keys.classes_per_peer if task.distillable else None
            told = data_words([ExamplesRecord.model_validate(task.examples())], keys.shards, classes)
        self.report(Ready(prints, parameters, learner.step, told))

    def _driver(self, network: NetworkThread, boot: int, prints: dict[str, str], injected: InjectedFaults) -> Driver:
        spec = self.spec
        me = Identity(PeerName(spec.name), Boot(boot), spec.advertise, spec.place, prints)
        contacts = [
            Contact(PeerName(other), address, index)
            for index, (other, address) in enumerate(zip(spec.names, spec.addresses, strict=True))
        ]
        peer = Peer(
            me,
            expected=1 if spec.pooled else spec.count,
            contacts=contacts,
            seeds=spec.seeds,
            closed=bool(spec.names),
            now=injected.clock(),
        )
        curve = self._secured(peer, boot)
        driver = Driver(peer, network.mailbox, spec.listen, DEFAULT_LIMITS, injected.clock, curve=curve)
        if injected.links is not None:
            names = dict(zip(spec.addresses, spec.names, strict=True))
            driver.faults = FaultySender(injected.links, injected.elapsed_s, names)
        driver.bind()
        return driver

    def _secured(self, peer: Peer, boot: int) -> Curve | None:
        """Give the peer the keys of those that may take part; returns this peer's keys for the sockets, None without
        keys."""
        spec = self.spec
        if spec.keys is None:
            return None
        pair, book = spec.keys.read(spec.name, spec.config.name, boot)
        peer.key_distribution.book = book
        publics = {name: key.encode("ascii") for name, key in book.keys().items()}
        host = read_join(spec.keys.join, spec.config.name).public if spec.keys.join is not None else ""
        return Curve(pair.public.encode("ascii"), pair.secret.encode("ascii"), publics, host.encode("ascii"))

    def _watch_keys(self, network: NetworkThread) -> KeyWatch | None:
        if self.spec.keys is None or self.spec.keys.roster is None:
            return None

        def warn(reason: str) -> None:
            network.mailbox.tell(None, [Event(EventKind.WARNING, time.monotonic(), "", reason)])

        watch = KeyWatch(self.spec.keys.roster, network.trust, warn)
        watch.start()
        return watch


def _told_at_start(
    learner: Learner, start_count: StartCount, found: Resumption, problems: Iterable[str]
) -> Iterator[Event]:
    """Events on how this process resumes from a checkpoint, and on `problems`, which the summary shows too."""
    now = time.monotonic()
    if start_count.problem:
        yield Event(EventKind.WARNING, now, "", start_count.problem)
    yield from found.events(now)
    for problem in problems:
        learner.ledger.warn(problem)
        yield Event(EventKind.WARNING, now, "", problem)
