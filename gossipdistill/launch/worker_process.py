"""One worker process from its specification to its result: the place where the two wings are put together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from gossipdistill.drivers.faulty import FaultySender
from gossipdistill.drivers.handoff import NetworkThread
from gossipdistill.drivers.security import Curve
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.durable import CheckpointFolder, Disk
from gossipdistill.errors import GossipdistillError
from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.launch.afflicted import Afflicted
from gossipdistill.launch.blaming import explained
from gossipdistill.launch.building import build_learner, build_schedule, build_task, build_worker, fingerprint_of
from gossipdistill.launch.examining import Examiner
from gossipdistill.launch.folder_lock import FolderLock, hold_folder
from gossipdistill.launch.incarnation import Incarnation
from gossipdistill.launch.joining import Joining, give_to_newcomers, is_newcomer
from gossipdistill.launch.keys.choice import INSECURE
from gossipdistill.launch.keys.joining import read_join
from gossipdistill.launch.keys.watching import KeyWatch
from gossipdistill.launch.peer_files import CHECKPOINTS, PeerFiles, needed
from gossipdistill.launch.publishing import refuse_unsendable
from gossipdistill.launch.release import Release
from gossipdistill.launch.resuming import Resumption, resume
from gossipdistill.launch.saving import Saver
from gossipdistill.launch.session import Session, carried_over_s
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.launch.stopping import StopRequest
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.live_validation import LiveValidation
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.observe.dealt import data_words
from gossipdistill.observe.recorder import Recorder, Report
from gossipdistill.presence import Contact
from gossipdistill.protocol.membership import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.tasks import Task
from gossipdistill.tasks import figures as figures_of
from gossipdistill.user_code import text_of
from gossipdistill.worker import Worker


@dataclass
class WorkerProcess:
    """Runs one peer. `report` receives records for whoever watches; `released` is set when training may begin."""

    spec: WorkerSpec
    report: Report
    stop: StopRequest
    released: Release
    disk: Disk = field(default_factory=Disk)

    def run(self) -> dict[str, Any]:
        """Everything, from building the model to the last word. Returns the peer's result, which is also on disk.

        Raises:
            GossipdistillError: when this peer cannot take part; the message is for the user.
        """
        with hold_folder(self.spec.folder, self.spec.name) as lock:
            return self._run(lock)

    def _phase(self, text: str) -> None:
        """What this process does before its first step, for whoever watches."""
        self.report({"type": "phase", "text": text})

    def _live(self, worker: Worker) -> LiveValidation:
        figures = partial(figures_of, worker.task, lenient=True)
        rows = self.spec.config.train.batch_size
        return LiveValidation(worker.learner, worker.task.validation, figures, time.monotonic, rows)

    def _run(self, lock: FolderLock) -> dict[str, Any]:
        spec = self.spec
        self._phase(f"reading the data of {spec.config.task.name}")
        torch.set_num_threads(spec.threads)
        strategy = spec.config.make_strategy()
        schedule = build_schedule(spec, strategy)
        task = build_task(spec, strategy)
        self._phase("building its model")
        learner, draws = build_learner(spec, strategy, task)
        refuse_unsendable(spec, strategy, task, learner.model)
        prints = fingerprint_of(spec, strategy, task, learner.model)
        files, folder = PeerFiles(spec.folder, self.disk), self._checkpoints()
        if spec.resume:
            self._phase("looking for its checkpoint")
        anew = "without --resume" if spec.released_by_launcher else "with --fresh"
        found = resume(folder, learner, spec.resolved, anew) if spec.resume else Resumption()
        resumed = found.checkpoint
        with needed(spec.folder):
            incarnation = Incarnation.next(spec.folder, not spec.resume, folder.highest_boot(), self.disk)
        folder.boot = incarnation.boot
        network = NetworkThread()
        afflicted = Afflicted(spec.faults, spec.names, spec.name, lambda: self.released.began_s)
        driver = self._driver(network, incarnation.boot, prints, afflicted)
        with Recorder(spec.folder, self.report, time.monotonic(), disk=self.disk) as recorder:
            with needed(spec.folder):
                recorder.prepare()
                files.begin(spec.resolved.as_json())
                if not spec.resume:
                    folder.clear()
            network.start(driver)
            watch = self._watch_keys(network)
            try:
                worker = build_worker(spec, strategy, task, learner, draws, schedule, network.mailbox)
                if incarnation.problem:
                    recorder.record(Event(EventKind.WARNING, time.monotonic(), "", incarnation.problem))
                if resumed is not None:
                    worker.resume(resumed)
                for event in found.events(time.monotonic()):
                    recorder.record(event)
                for problem in filter(None, (INSECURE if spec.insecure else "", lock.problem)):
                    learner.ledger.warn(problem)
                    recorder.record(Event(EventKind.WARNING, time.monotonic(), "", problem))
                examiner = Examiner(worker, spec.config.train, plan=spec.faults)
                self._phase("looking at its model before the first step")
                examiner.begin(spec.config.steps, resumed is not None)
                self._report_ready(prints, learner, task)
                session = Session(
                    spec, self.report, self.stop, self.released, worker, network, driver, recorder, incarnation.count,
                    afflicted, Saver(folder), files, examiner, self._live(worker),
                )  # fmt: skip
                if resumed is not None:
                    session.elapsed_before_s = carried_over_s(
                        resumed.progress.get("elapsed_s", 0.0), spec.config.seconds
                    )
                session.wait_for_release()
                self._join(session, resumed)
                return session.train_and_serve()
            except Exception as error:
                shown = explained(error, task, learner, spec, network.mailbox)
                if shown is error and isinstance(error, GossipdistillError):
                    raise  # a reason of the user's, or of another peer's
                network.stop(text_of(error.__cause__ or error), crashed=True)
                if shown is error:
                    raise
                raise shown from error.__cause__ or error
            finally:
                files.end()
                if watch is not None:
                    watch.stop()
                network.stop(self.stop.reason or "finished")

    def _checkpoints(self) -> CheckpointFolder:
        spec = self.spec
        identity = {"peer": spec.name, "task": spec.config.task.name}
        return CheckpointFolder(spec.folder / CHECKPOINTS, identity, spec.config.train.checkpoints_kept, disk=self.disk)

    def _join(self, session: Session, resumed: Checkpoint | None) -> None:
        """A newcomer to a run that is in progress begins with the model of another, where there is one."""
        worker, keys = session.worker, self.spec.config.exchange
        gives = give_to_newcomers(worker, keys) and session.run_is_in_progress()
        if gives and is_newcomer(resumed, time.time(), keys):
            self._phase("asking the others for their model")
            session.join_run(Joining(worker, session.afflicted.clock(), keys.fetch_within_s))

    def _report_ready(self, prints: dict[str, str], learner: Learner, task: Task) -> None:
        parameters = sum(parameter.numel() for parameter in learner.model.parameters())
        record = {"type": "ready", "fingerprint": prints, "parameters": parameters, "step": learner.step}
        if not self.spec.released_by_launcher:  # which has said it for all
            keys = self.spec.config.task
            classes = keys.classes_per_peer if task.distillable else None
            record["told"] = data_words([task.examples()], keys.shards, classes)
        self.report(record)

    def _driver(self, network: NetworkThread, boot: int, prints: dict[str, str], afflicted: Afflicted) -> Driver:
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
            now=afflicted.clock(),
        )
        driver = Driver(
            peer, network.mailbox, spec.listen, DEFAULT_LIMITS, afflicted.clock, curve=self._secured(peer, boot)
        )
        if afflicted.links is not None:
            names = dict(zip(spec.addresses, spec.names, strict=True))
            driver.faults = FaultySender(afflicted.links, afflicted.elapsed_s, names)
        driver.bind()
        return driver

    def _secured(self, peer: Peer, boot: int) -> Curve | None:
        """My keys for the sockets, and for the peer the book of who may take part; None without keys."""
        spec = self.spec
        if spec.keys is None:
            return None
        pair, book = spec.keys.read(spec.name, spec.config.name, boot)
        peer.introductions.book = book
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
