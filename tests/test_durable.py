"""Checkpoints on disk: the writer dies, or the power fails, at every one of its file operations."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gossipdistill.durable import CheckpointFolder, Disk, KeptRoom, Number, Parts, RefusedCheckpointError, Saved

ADA = {"peer": "ada", "task": "digits"}
SCORES = (0.9, 0.4, 0.8, 0.7, 0.6, 0.5)
"""Of six saves; the second stays to the end, as the best."""
KEEPS = (1, 2)
BOOT = 7


def tensors_of(number: int) -> bytes:
    return bytes((number * 31 + place) % 256 for place in range(64))


def parts_of(number: int) -> Parts:
    data = tensors_of(number)
    return [data[:10], memoryview(data)[10:], b""]


def save_all(folder: Path, disk: Disk, keep: int = 2) -> None:
    """Six saves of one process."""
    checkpoints = CheckpointFolder(folder, ADA, keep, BOOT, disk)
    for number, score in enumerate(SCORES, start=1):
        checkpoints.save(parts_of(number), {"step": number}, score)


def resumed(folder: Path, refusals_max: int = 0) -> int:
    """The save from which the next process resumes; 0 is none. Nothing else than a whole one is ever returned."""
    checkpoints = CheckpointFolder(folder, ADA)
    saved, refusals = checkpoints.newest(whole)
    assert len(refusals) <= refusals_max, refusals
    if not refusals_max:
        for number in checkpoints.numbers():
            assert checkpoints.read(number).number == number  # nor is any older one half removed
    if saved is None:
        return 0
    assert saved.tensors == tensors_of(saved.content["step"])
    return int(saved.content["step"])


def whole(saved: Saved) -> Saved:
    return saved


def goes_on(folder: Path, keep: int) -> None:
    """The next process can save as well, and nothing is left of what was never finished."""
    checkpoints = CheckpointFolder(folder, ADA, keep, BOOT + 1, DoomedDisk(at=-1))
    checkpoints.newest(whole)
    written = checkpoints.save(parts_of(99), {"step": 99}, 1.0)
    assert resumed(folder) == 99
    names = {file.name for file in folder.iterdir()}
    numbers = checkpoints.numbers()
    assert numbers[0] == written
    assert len(numbers) <= keep + 1
    assert names == {f"{n.boot}-{n.serial}{ending}" for n in numbers for ending in (".json", ".safetensors")}


class KilledError(BaseException):
    """The process is gone; nobody catches that."""


@dataclass
class DoomedDisk(Disk):
    """Kills the writer before operation number `at`; a write that is killed leaves `left` of its bytes behind. Whatever
    the writer tries afterwards has no effect, as it is dead."""

    at: int
    left: float = 0.0
    done: int = 0
    finished: int = 0
    """Checkpoints whose JSON has got its name."""

    def _count(self) -> None:
        if self.done == self.at:
            raise KilledError
        self.done += 1

    def make_folder(self, folder: Path) -> None:
        self._count()
        super().make_folder(folder)

    def write(self, file: Path, parts: Parts) -> None:
        if self.done == self.at and self.left:
            data = b"".join(parts)
            super().write(file, [data[: int(self.left * len(data))]])
        self._count()
        super().write(file, parts)

    def sync(self, path: Path) -> None:
        self._count()  # a kill loses nothing that was written: the slow part is for power cuts

    def rename(self, file: Path, to: Path) -> None:
        self._count()
        super().rename(file, to)
        self.finished += to.suffix == ".json"

    def remove(self, file: Path) -> None:
        self._count()
        super().remove(file)


def operations(folder: Path, keep: int) -> int:
    """How many the six saves need."""
    disk = DoomedDisk(at=-1)
    save_all(folder, disk, keep)
    assert disk.finished == len(SCORES)
    return disk.done


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("left", [0.0, 0.5, 1.0])
def test_a_writer_killed_at_any_file_operation_leaves_the_newest_complete_checkpoint(
    tmp_path: Path, left: float, keep: int
) -> None:
    count = operations(tmp_path / "all", keep)
    assert count > 6 * 7  # two writes, two syncs, two renames and one sync of the folder, at least
    for at in range(count + 1):
        folder = tmp_path / f"killed-{at}" / "checkpoints"
        disk = DoomedDisk(at, left)
        if at < count:
            with pytest.raises(KilledError):
                save_all(folder, disk, keep)
        else:
            save_all(folder, disk, keep)
        assert resumed(folder) == disk.finished, f"killed before operation {at} of {count}"
        goes_on(folder, keep)


# --- the power fails -------------------------------------------------------------------------------------------------


@dataclass
class File:
    """What was written, and whether it is certainly on the disk."""

    data: bytes
    synced: bool = False


@dataclass
class Change:
    """A change of the names in the folder: `gone` is no name any more, `name` is one of `file`."""

    gone: str | None = None
    name: str | None = None
    file: File | None = None


@dataclass
class Machine(Disk):
    """Records operations, and knows what a power cut could leave of them: what was synced for certain, and of the rest
    anything. One folder."""

    folder: Path
    cut_after: int
    done: int = 0
    there: bool = False
    safe_folder: bool = False
    names: dict[str, File] = field(default_factory=dict)
    safe: dict[str, File] = field(default_factory=dict)
    unsafe: list[Change] = field(default_factory=list)
    certain: int = 0
    """Checkpoints that were finished when the folder was last synced."""
    finished: int = 0

    def _count(self) -> None:
        if self.done == self.cut_after:
            raise KilledError
        self.done += 1

    def _change(self, change: Change) -> None:
        apply(self.names, change)
        self.unsafe.append(change)

    def make_folder(self, folder: Path) -> None:
        self._count()
        assert folder == self.folder
        self.there = True
        super().make_folder(folder)

    def write(self, file: Path, parts: Parts) -> None:
        self._count()
        self._change(Change(name=file.name, file=File(b"".join(parts))))
        super().write(file, parts)

    def sync(self, path: Path) -> None:
        self._count()
        if path == self.folder:
            self.safe, self.unsafe = dict(self.names), []
            self.certain = self.finished
        elif path == self.folder.parent:
            self.safe_folder = self.there
        elif path.parent == self.folder:
            self.names[path.name].synced = True

    def rename(self, file: Path, to: Path) -> None:
        self._count()
        self._change(Change(file.name, to.name, self.names[file.name]))
        self.finished += to.suffix == ".json"
        super().rename(file, to)

    def remove(self, file: Path) -> None:
        self._count()
        self._change(Change(gone=file.name))
        super().remove(file)

    def left_by(self, survives: list[bool]) -> dict[str, File]:
        """The names after the cut, if of the unsynced changes these survive."""
        names = dict(self.safe)
        for change, does in zip(self.unsafe, survives, strict=True):
            if does:
                apply(names, change)
        return names


def apply(names: dict[str, File], change: Change) -> None:
    if change.gone is not None:
        names.pop(change.gone, None)
    if change.name is not None and change.file is not None:
        names[change.name] = change.file


def put_down(folder: Path, names: dict[str, File], unsynced_share: float) -> int:
    """Make the folder as the cut left it; returns the newest checkpoint of which every byte is there, 0 if none is."""
    folder.mkdir(parents=True)
    complete = set()
    for name, file in names.items():
        kept = file.data if file.synced else file.data[: int(unsynced_share * len(file.data))]
        (folder / name).write_bytes(kept)
        if kept == file.data:
            complete.add(name)
    both = [serial for serial in range(1, 7) if {f"{BOOT}-{serial}{e}" for e in (".json", ".safetensors")} <= complete]
    return max(both, default=0)


def cut_at_each(tmp_path: Path, keep: int) -> Iterator[Machine]:
    count = operations(tmp_path / "all", keep)
    for at in range(count + 1):
        folder = tmp_path / f"machine-{at}" / "checkpoints"
        machine = Machine(folder, at)
        if at < count:
            with pytest.raises(KilledError):
                save_all(folder, machine, keep)
        else:
            save_all(folder, machine, keep)
            assert machine.certain == len(SCORES)
        yield machine


@pytest.mark.parametrize("keep", KEEPS)
def test_after_a_power_cut_at_any_operation_the_newest_synced_checkpoint_is_there(tmp_path: Path, keep: int) -> None:
    for machine in cut_at_each(tmp_path, keep):
        if not machine.safe_folder:
            assert machine.certain == 0  # the folder itself is gone: there was no promise yet
            continue
        folder = tmp_path / f"dropped-{machine.done}"
        put_down(folder, machine.left_by([False] * len(machine.unsafe)), 0.0)
        assert resumed(folder) == machine.certain, f"cut after operation {machine.done}"
        goes_on(folder, keep)


@pytest.mark.parametrize("keep", KEEPS)
def test_whatever_survives_of_the_unsynced_operations_the_newest_complete_one_is_used(
    tmp_path: Path, keep: int
) -> None:
    chance = random.Random(3)
    for machine in cut_at_each(tmp_path, keep):
        count = len(machine.unsafe)
        some = [[chance.random() < 0.5 for _ in range(count)] for _ in range(6)]
        for case, survives in enumerate([[place < n for place in range(count)] for n in range(count + 1)] + some):
            folder = tmp_path / f"some-{machine.done}-{case}"
            complete = put_down(folder, machine.left_by(survives), chance.choice([0.0, 0.5, 1.0]))
            where = f"cut after operation {machine.done}, survivors {survives} (seed 3)"
            assert resumed(folder, refusals_max=3) == complete, where
            assert complete >= machine.certain, where


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_torn_or_damaged_checkpoint_is_refused_and_the_one_before_it_is_used(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, ADA, 2, BOOT)
    checkpoints.save(parts_of(1), {"step": 1})
    newest = checkpoints.save(parts_of(2), {"step": 2})
    for ending in (".json", ".safetensors"):
        file = tmp_path / f"{newest.boot}-{newest.serial}{ending}"
        good = file.read_bytes()
        torn = [(good[:length], ("torn",)) for length in range(len(good))]
        words = ("damaged",) if ending == ".safetensors" else ("torn", "damaged")
        flipped = [(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], words) for at in range(len(good))]
        for number, (bad, expected) in enumerate(torn + flipped):
            file.write_bytes(bad)
            reader = CheckpointFolder(tmp_path, ADA)
            saved, refusals = reader.newest(whole)
            assert saved is not None
            assert saved.content == {"step": 1}, f"{ending}, case {number}"
            assert [refusal.number for refusal in refusals] == [newest]
            assert any(word in refusals[0].reason for word in expected), refusals
        file.write_bytes(good)
    assert resumed(tmp_path) == 2


def test_another_peers_checkpoint_and_another_format_are_refused_with_the_reason(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path, {"peer": "bo", "task": "digits"}, boot=1).save([b"x"], {})
    saved, refusals = CheckpointFolder(tmp_path, ADA).newest(whole)
    assert saved is None
    assert [refusal.reason for refusal in refusals] == ["it belongs to peer bo, and this is peer ada"]


def test_what_the_reader_cannot_use_is_refused_and_does_not_count_among_the_kept(tmp_path: Path) -> None:
    before = CheckpointFolder(tmp_path, ADA, keep=2, boot=1)
    for step in (1, 2, 3):
        before.save(parts_of(step), {"step": step}, score=float(step))

    def use(saved: Saved) -> int:
        if saved.content["step"] == 3:
            raise RefusedCheckpointError("it is of another model")
        return int(saved.content["step"])

    now = CheckpointFolder(tmp_path, ADA, keep=2, boot=2)
    step, refusals = now.newest(use)
    assert (step, refusals) == (2, [(Number(1, 3), "it is of another model")])
    now.save(parts_of(4), {"step": 4}, score=4.0)
    assert now.numbers() == [Number(2, 1), Number(1, 2), Number(1, 1)]  # two newest that are of use, and the best


def test_the_newest_and_the_best_are_kept_and_a_newer_process_is_left_alone(tmp_path: Path) -> None:
    save_all(tmp_path, Disk())
    checkpoints = CheckpointFolder(tmp_path, ADA, 2, BOOT)
    assert checkpoints.numbers() == [Number(BOOT, 6), Number(BOOT, 5), Number(BOOT, 2)]
    assert checkpoints.best() == Number(BOOT, 2)
    old = CheckpointFolder(tmp_path, ADA, 2, BOOT - 1)
    old.save([b"late"], {"step": 0})  # a process that does not know yet that it is superseded
    assert checkpoints.numbers() == [Number(BOOT, 6), Number(BOOT, 5), Number(BOOT, 2), Number(BOOT - 1, 1)]
    assert checkpoints.highest_boot() == BOOT
    assert resumed(tmp_path) == 6


def test_a_score_that_is_no_number_is_none(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, ADA, boot=1)
    checkpoints.save([b"x"], {}, float("nan"))
    assert checkpoints.best() is None


def test_afresh_means_that_nothing_is_left(tmp_path: Path) -> None:
    save_all(tmp_path, Disk())
    (tmp_path / "mine.txt").write_text("not a checkpoint")
    CheckpointFolder(tmp_path, ADA).clear()
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    assert resumed(tmp_path) == 0


# --- a full disk ----------------------------------------------------------------------------------------------------


@dataclass
class FullFrom(Disk):
    """Nothing is written any more from write number `at` on, but over what is there."""

    at: int
    done: int = 0

    def write(self, file: Path, parts: Parts) -> None:
        self.done += 1
        if self.done > self.at:
            super().write(file, [b"".join(parts)[:7]])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(file, parts)


def test_a_save_that_fails_gives_its_space_back_and_names_the_file(tmp_path: Path) -> None:
    for at in (0, 1):
        folder = tmp_path / str(at)
        CheckpointFolder(folder, ADA, boot=1).save(parts_of(1), {"step": 1})
        before = {file.name for file in folder.iterdir()}
        (folder / "1-7.json.partial").write_bytes(b"of a process that was killed")
        (folder / "1-8.safetensors").write_bytes(b"and what it did not come to")
        doomed = CheckpointFolder(folder, ADA, boot=2, disk=FullFrom(at))
        with pytest.raises(OSError, match="No space left") as raised:
            doomed.save(parts_of(2), {"step": 2})
        ending = ".json" if at else ".safetensors"
        assert raised.value.filename == str(folder / f"2-1{ending}")
        assert {file.name for file in folder.iterdir()} == before
        assert resumed(folder) == 1


@pytest.mark.parametrize("at", range(4))
def test_with_room_kept_a_file_is_written_on_a_full_disk_whole_and_again(tmp_path: Path, at: int) -> None:
    room = KeptRoom(tmp_path / "result.json", FullFrom(at + 1), room_bytes=4096)
    room.take()
    for number, last in ((1, False), (2, False), (3, True)):
        room.write(f"result {number}".encode(), last)
        assert (tmp_path / "result.json").read_text() == f"result {number}"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_without_room_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    with pytest.raises(OSError, match="No space left") as raised:
        KeptRoom(file, FullFrom(0)).take()
    assert list(tmp_path.iterdir()) == []
    file.write_text("before")
    with pytest.raises(OSError, match="No space left") as raised:
        KeptRoom(file, FullFrom(0)).write(b"x" * 10_000)
    assert raised.value.filename == str(file)
    assert file.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["result.json"]


def test_a_file_is_opened_as_soon_as_one_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a flood of connections there is none for some milliseconds."""
    tries, opened = [0], Path.open

    def open_at_the_third_try(path: Path, *args: Any, **options: Any) -> Any:
        tries[0] += 1
        if tries[0] < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", open_at_the_third_try)
    Disk().append(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"
    monkeypatch.setattr("gossipdistill.durable._FILE_WITHIN_S", 0.0)
    tries[0] = -100
    with pytest.raises(OSError, match="Too many open files"):
        Disk().append(tmp_path / "file", b"x")
