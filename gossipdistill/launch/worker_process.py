"""One worker process from its specification to its result: the place where the two wings are put together."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gossipdistill.drivers.handoff import NetworkThread
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.errors import ConfigError, GossipdistillError, IdentityError, NeedsError
from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName, next_boot
from gossipdistill.launch.environment import StopRequest, choose_device
from gossipdistill.launch.results import peer_result
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.checkpoint import load_checkpoint, save_checkpoint
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.learning.snapshot import architecture_hash, weights_hash
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import Contact
from gossipdistill.observe.recorder import Recorder, Report
from gossipdistill.protocol.membership import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.strategies import Initialisation, Rounds, Strategy
from gossipdistill.tasks import Shard, Task, fingerprint, load_task
from gossipdistill.topology import Schedule, judge, load_topology
from gossipdistill.worker import Worker, build_optimizer

_REPORT_EVERY_S = 0.25
_LOOK_EVERY_S = 0.02
_JUDGED_PEERS_MAX = 512


class SupersededError(IdentityError):
    """A newer process of the same name has taken over; this one ends."""


@dataclass
class WorkerProcess:
    """Runs one peer. `report` receives records for whoever watches; `released` is set when training may begin."""

    spec: WorkerSpec
    report: Report
    stop: StopRequest
    released: threading.Event

    def run(self) -> dict[str, Any]:
        """Everything, from building the model to the last word. Returns the peer's result, which is also on disk.

        Raises:
            GossipdistillError: when this peer cannot take part; the message is for the user.
        """
        spec, config = self.spec, self.spec.config
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        incarnation = _Incarnation.next(spec.folder, fresh=not spec.resume)
        strategy = config.make_strategy()
        schedule = self._schedule(strategy)
        task, learner, draws = self._build(strategy)
        prints = self._fingerprint(task, learner, strategy)
        resumed = self._resume(learner)
        network = NetworkThread()
        driver = self._driver(network, incarnation.boot, prints)
        with Recorder(spec.folder, self.report, time.monotonic()) as recorder:
            (spec.folder / "config.json").write_text(json.dumps(spec.resolved.as_json(), indent=1) + "\n")
            network.start(driver)
            try:
                worker = self._worker(task, learner, strategy, schedule, network, draws)
                if resumed is not None:
                    worker.cadence.exchanges = int(resumed.get("exchanges", 0))
                    reason = f"from its checkpoint at step {learner.step}"
                    recorder.record(Event(EventKind.RESUMED, time.monotonic(), "", reason))
                parameters = sum(parameter.numel() for parameter in learner.model.parameters())
                self.report({"type": "ready", "fingerprint": dict(prints), "parameters": parameters})
                session = _Session(self, worker, driver, recorder, incarnation.count)
                session.wait_for_release()
                return session.train_and_serve()
            finally:
                network.stop(self.stop.reason or "finished")
                failure = network.failure()
                if failure is not None:
                    raise failure

    # --- building ------------------------------------------------------------------------------------------------

    def _schedule(self, strategy: Strategy) -> Schedule:
        spec = self.spec
        labels = spec.names or tuple(f"place-{place + 1}" for place in range(spec.count))
        if spec.pooled:
            labels = (spec.name,)
        schedule = load_topology(spec.config.topology, labels, base=spec.topology_base)
        if strategy.needs.strongly_connected and 1 < len(labels) <= _JUDGED_PEERS_MAX:
            judgement = judge(schedule)
            if not judgement.strongly_connected:
                groups = "; ".join(", ".join(group) for group in judgement.groups)
                raise NeedsError(
                    f"strategy {strategy.name} needs a strongly connected topology, and {spec.config.topology} "
                    f"is not: news does not get round between {groups}"
                )
        return schedule

    def _build(self, strategy: Strategy) -> tuple[Task, Learner, Draws]:
        spec, config = self.spec, self.spec.config
        index, count = spec.shard or (spec.place, spec.count)
        keys = config.task
        shard = Shard(
            index, count, keys.shards, keys.examples_per_peer, config.seed, spec.data_dir, spec.pooled,
            keys.skew, keys.classes_per_peer,
        )  # fmt: skip
        task = load_task(keys.name, shard, config.task_options())
        _check_needs(strategy, task, keys.name)
        device = choose_device(spec.device, spec.place)
        identical = strategy.needs.initialisation is Initialisation.IDENTICAL
        torch.manual_seed(config.seed if identical else config.seed + 1000 * (spec.place + 1))
        model = task.model().to(device)
        task.check_model(model)
        batch_size = config.train.batch_size * (spec.count if spec.pooled else 1)
        optimizer = build_optimizer(
            config.train.optimizer, model, config.train.lr, config.train.momentum, config.train.weight_decay
        )
        transfer_draws = None
        if task.transfer is not None:
            size = getattr(strategy.options, "transfer_batch_size", config.train.batch_size)
            transfer_draws = Draws(
                len(task.transfer), min(size, len(task.transfer)), config.seed + 7919 * (spec.place + 1)
            )
        learner = Learner(
            name=spec.name,
            place=spec.place,
            peers=tuple(spec.names) or (spec.name,),
            model=model,
            optimizer=optimizer,
            device=device,
            seed=config.seed,
            transfer=task.transfer.to(device) if task.transfer is not None else None,
            transfer_draws=transfer_draws,
            classes=task.class_count,
            steps_total=config.steps if config.seconds is None else None,
        )
        return task, learner, Draws(len(task.train[0]), batch_size, config.seed + 104_729 * (spec.place + 1))

    def _fingerprint(self, task: Task, learner: Learner, strategy: Strategy) -> dict[str, str]:
        prints = {
            "run": self.spec.config.name,
            "strategy": strategy.name,
            **fingerprint(task, self.spec.config.task.name),
        }
        if strategy.needs.alike_models:
            prints["model"] = architecture_hash(learner.model)
        if strategy.needs.initialisation is Initialisation.IDENTICAL:
            prints["initial weights"] = weights_hash(learner.model)
        return prints

    def _resume(self, learner: Learner) -> dict[str, int | float] | None:
        path = self.spec.folder / "checkpoint.safetensors"
        if not self.spec.resume or not path.exists():
            return None
        progress = load_checkpoint(path, learner.model, learner.optimizer)
        learner.step = int(progress["step"])
        return progress

    def _driver(self, network: NetworkThread, boot: int, prints: dict[str, str]) -> Driver:
        spec = self.spec
        name = PeerName(spec.name)
        me = Identity(name, Boot(boot), spec.advertise, spec.place, prints)
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
            now=time.monotonic(),
        )
        driver = Driver(peer, network.mailbox, spec.listen, DEFAULT_LIMITS, time.monotonic)
        driver.bind()
        return driver

    def _worker(
        self,
        task: Task,
        learner: Learner,
        strategy: Strategy,
        schedule: Schedule,
        network: NetworkThread,
        draws: Draws,
    ) -> Worker:
        config = self.spec.config
        cosine = config.train.lr_schedule == "cosine"
        cadence = Cadence(strategy.exchange.every_steps, strategy.exchange.per_second_max)
        return Worker(learner, task, strategy, schedule, network.mailbox, cadence, draws, cosine)


@dataclass
class _Session:
    """The life of a worker between ready and gone."""

    process: WorkerProcess
    worker: Worker
    driver: Driver
    recorder: Recorder
    incarnation: int
    began_s: float = 0.0
    cpu_began_s: float = 0.0
    steps_before: int = 0
    _reported_s: float = 0.0
    _saved_s: float = 0.0
    _ever_alive: bool = False

    def wait_for_release(self) -> None:
        """Until the launcher says go; or, alone, until `start_when` peers are there or `start_within_s` is over."""
        spec = self.process.spec
        mailbox = self.worker.mailbox
        deadline_s = time.monotonic() + spec.start_within_s
        said_s = time.monotonic()
        while self.process.stop.reason is None:
            self._look()
            if spec.released_by_launcher:
                if self.process.released.wait(_LOOK_EVERY_S):
                    return
                continue
            neighbourhood = mailbox.neighbourhood()
            here = 1 + len(neighbourhood.alive)
            now = time.monotonic()
            if here >= spec.start_when or spec.start_when <= 1:
                return
            missing = sorted(map(str, set(neighbourhood.statuses) - neighbourhood.alive)) or ["peers not known yet"]
            if now >= deadline_s:
                reason = f"starting with {here} of {spec.start_when} peers; did not come: {', '.join(missing)}"
                self.recorder.record(Event(EventKind.WARNING, now, "", reason))
                return
            if now - said_s >= 2.0:
                said_s = now
                left_s = deadline_s - now
                text = f"{here} of {spec.start_when} peers here; waiting {left_s:.0f} s more for {', '.join(missing)}"
                self.process.report({"type": "waiting", "text": text})
            time.sleep(_LOOK_EVERY_S)

    def train_and_serve(self) -> dict[str, Any]:
        """Train to the limit, write the result, then serve on until the others are done."""
        process, worker = self.process, self.worker
        learner = worker.learner
        self.began_s = self._saved_s = time.monotonic()
        self.cpu_began_s, self.steps_before = time.process_time(), learner.step
        self.recorder.record(Event(EventKind.STARTED, self.began_s, "", f"training at step {learner.step}"))
        self._train()
        wall_s, cpu_s = time.monotonic() - self.began_s, time.process_time() - self.cpu_began_s
        status = {None: "finished", "interrupted": "interrupted"}.get(process.stop.reason, "left")
        self._save()
        result = self._result(status, wall_s, cpu_s, None)
        if process.stop.reason is not None:
            self._write(result)  # first without its figures: they may take longer than a stopped process has
        outputs, figures = worker.evaluate()
        result = self._result(status, wall_s, cpu_s, figures)
        self._write(result)
        if process.stop.reason is None:
            save_file(
                {"outputs": outputs.float().contiguous(), "labels": worker.task.validation[1].contiguous()},
                process.spec.folder / "validation.safetensors",
            )
            worker.publish_final(time.monotonic())
            worker.mailbox.report_progress(learner.step, done=True)
            self.recorder.record(Event(EventKind.FINISHED, time.monotonic(), "", f"after {learner.step} steps"))
            process.report({"type": "done", "result": result})
            self._serve()
            result = self._result(status, wall_s, cpu_s, figures)
            self._write(result)
        process.report({"type": "result", "result": result})
        return result

    def _train(self) -> None:
        config, learner = self.process.spec.config, self.worker.learner
        step_time_s = config.train.step_time_s * self.process.spec.slowdown
        while True:
            started_s = time.monotonic()
            ended = self.process.stop.reason is not None
            ended |= config.steps is not None and learner.step >= config.steps
            ended |= config.seconds is not None and started_s - self.began_s >= config.seconds
            if learner.stop_wanted or (ended and not self._lockstep_by_time()):
                return
            learner.stop_wanted = ended
            try:
                self.worker.step(started_s, self._share(started_s))
            except RuntimeError as error:
                raise self._explained(error) from error
            self._look()
            spent_s = time.monotonic() - started_s
            pause_s = step_time_s - spent_s
            if step_time_s == 0 and self.process.spec.slowdown > 1:
                pause_s = (self.process.spec.slowdown - 1) * spent_s
            if pause_s > 0:
                time.sleep(pause_s)

    def _lockstep_by_time(self) -> bool:
        """A lockstep run by time ends by agreement, one step after the first peer wants to."""
        strategy, config = self.worker.strategy, self.process.spec.config
        return strategy.rounds is Rounds.LOCKSTEP and config.seconds is not None and self.process.stop.reason is None

    def _explained(self, error: RuntimeError) -> GossipdistillError:
        if self.worker.strategy.rounds is Rounds.LOCKSTEP:
            text = " ".join(str(error).split())[:300]
            return GossipdistillError(f"{self.worker.strategy.name} stopped, as it does when a peer is lost: {text}")
        return GossipdistillError(f"training failed at step {self.worker.learner.step}: {error}")

    def _serve(self) -> None:
        """Answer those who still learn, until they are done or `linger_s` is over."""
        deadline_s = time.monotonic() + self.process.spec.config.linger_s
        while self.process.stop.reason is None and time.monotonic() < deadline_s:
            self._look()
            neighbourhood = self.worker.mailbox.neighbourhood()
            waiting_for = set(neighbourhood.statuses) - neighbourhood.done - neighbourhood.gone
            waiting_for = {n for n in waiting_for if not neighbourhood.statuses[n].startswith("unheard")}
            if not waiting_for:
                return
            time.sleep(_LOOK_EVERY_S)

    def _look(self) -> None:
        """Between two steps: record what happened, report, save, and act on a refusal."""
        now = time.monotonic()
        for event in self.worker.mailbox.drain_events():
            self.recorder.record(event)
            self._act_on(event)
        ledger = self.worker.learner.ledger
        for sender, reason, problem in ledger.quarantined_news:
            self.recorder.record(Event(EventKind.QUARANTINED, now, sender, problem, {"code": reason}))
        ledger.quarantined_news.clear()
        alarm = self.worker.check_exchange(now)
        if alarm is not None:
            self.recorder.record(alarm)
        if now - self._reported_s >= _REPORT_EVERY_S and self.began_s:
            self._reported_s = now
            self.process.report(self._progress(now))
        every_s = self.process.spec.config.train.checkpoint_every_s
        if self.began_s and every_s > 0 and now - self._saved_s >= every_s:
            self._saved_s = now
            self._save()

    def _act_on(self, event: Event) -> None:
        self._ever_alive |= event.kind is EventKind.JOINED
        if event.kind is EventKind.SUPERSEDED:
            raise SupersededError(f"{self.process.spec.name}: {event.reason}; this process ends")
        # The one who came later goes: else a newcomer with a wrong setting could end a run that is under way.
        if event.kind is EventKind.REFUSED_BY and event.detail.get("i_am_newer") and not self._ever_alive:
            text = f"refused by {event.peer}: {event.reason}"
            if "model:" in event.reason or "initial weights:" in event.reason:
                raise NeedsError(text)
            raise ConfigError(text)

    def _progress(self, now: float) -> dict[str, Any]:
        learner, neighbourhood = self.worker.learner, self.worker.mailbox.neighbourhood()
        return {
            "type": "progress",
            "step": learner.step,
            "share": self._share(now),
            "elapsed_s": now - self.began_s,
            "steps_per_s": (learner.step - self.steps_before) / max(now - self.began_s, 1e-9),
            "loss": self.worker.task_loss,
            "exchanges": learner.ledger.exchanges,
            "links": {name: link.exchanges for name, link in learner.ledger.links.items()},
            "cpu_s": time.process_time() - self.cpu_began_s,
            "alive": 1 + len(neighbourhood.alive),
            "expected": max(neighbourhood.expected, 1),
        }

    def _share(self, now: float) -> float:
        """How much of the run is over, 0 to 1, by the limit that is nearer."""
        config = self.process.spec.config
        shares = [self.worker.learner.step / config.steps] if config.steps else []
        if config.seconds:
            shares.append((now - self.began_s) / config.seconds)
        return min(max(shares), 1.0)

    def _save(self) -> None:
        learner = self.worker.learner
        progress: dict[str, int | float] = {"step": learner.step, "exchanges": self.worker.cadence.exchanges}
        save_checkpoint(self.process.spec.folder / "checkpoint.safetensors", learner.model, learner.optimizer, progress)

    def _result(self, status: str, wall_s: float, cpu_s: float, figures: dict[str, float] | None) -> dict[str, Any]:
        return peer_result(
            self.worker, self.driver, status, self.incarnation, self.steps_before, wall_s, cpu_s, self.began_s, figures
        )

    def _write(self, result: dict[str, Any]) -> None:
        path = self.process.spec.folder / "result.json"
        scratch = path.with_suffix(".partial")
        scratch.write_text(json.dumps(result, indent=1) + "\n")
        scratch.replace(path)


@dataclass(frozen=True)
class _Incarnation:
    """How often this peer has been started, and the boot of this start: above all earlier ones, whatever the clock."""

    count: int
    boot: int

    @staticmethod
    def next(folder: Path, fresh: bool) -> _Incarnation:
        path = folder / "boots.json"
        folder.mkdir(parents=True, exist_ok=True)
        count = highest = 0
        if path.exists():
            try:
                before = json.loads(path.read_text())
                count, highest = int(before["count"]), int(before["boot"])
            except (ValueError, KeyError):
                pass  # a torn file: the clock alone will do
        made = _Incarnation(1 if fresh else count + 1, next_boot(time.time(), highest))
        path.write_text(json.dumps({"count": made.count, "boot": made.boot}))
        return made


def _check_needs(strategy: Strategy, task: Task, name: str) -> None:
    if strategy.needs.class_outputs and not task.distillable:
        raise NeedsError(
            f"strategy {strategy.name} compares class probabilities, and the outputs of task {name} are none; "
            "use gossip_averaging, or a task whose labels are class numbers"
        )
    if strategy.needs.transfer_set and task.transfer is None:
        raise NeedsError(
            f"strategy {strategy.name} exchanges predictions on a transfer set, and task {name} has none; "
            "give Task(transfer=...) unlabelled inputs, or use codistill_checkpoints"
        )
