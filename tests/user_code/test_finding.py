"""The user's modules: found in the user's folder, whatever they are called, and in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossipdistill.errors import ConfigError, UserCodeError
from gossipdistill.user_code import find_user_object


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


def find(name: str, folder: Path) -> object:
    return find_user_object(name, "task.name", "task", "anything", folder)


@pytest.mark.parametrize("name", ["random", "types", "json", "queue", "torch", "numpy", "pytest", "gossipdistill"])
def test_a_file_with_the_name_of_another_module_is_found_and_hurts_nobody(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text("import helper_of_mine\n\ndef task(shard):\n    return helper_of_mine.WORD\n")
    (folder / "helper_of_mine.py").write_text(f"import {name}\nWORD = {name}.__file__\n")
    task = find(f"{name}:task", folder)
    assert callable(task)
    assert str(folder) not in task(None)
    assert find(f"{name}:task", folder) is task


def test_the_folder_comes_last_once_and_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine.py").write_text("import other_of_mine\nfrom other_of_mine import task\n")
    (folder / "other_of_mine.py").write_text(
        "import os, tempfile\nos.chdir(tempfile.gettempdir())\ndef task(): import late_of_mine\n"
    )
    (folder / "late_of_mine.py").write_text("")
    monkeypatch.chdir(folder)
    task = find_user_object("mine:task", "task.name", "task", "anything")
    assert Path.cwd() != folder
    assert callable(task)
    task()  # what is imported later is found as well
    find("mine:task", folder)
    assert sys.path[-1] == str(folder)
    assert sys.path.count(str(folder)) == 1


def test_packages_of_the_user_are_found_also_with_a_taken_name(folder: Path) -> None:
    for package, inner in (("json", "tasks"), ("xml", "deep")):
        (folder / package).mkdir()
        (folder / package / f"{inner}.py").write_text("def task(): return __name__\n")
    (folder / "json" / "__init__.py").write_text("from .tasks import task as first\n")
    task = find("json.tasks:task", folder)
    assert callable(task)
    assert task().endswith("json.tasks")
    assert callable(find("json:first", folder))
    assert callable(find("xml.deep:task", folder))  # a folder without __init__.py
    with pytest.raises(ConfigError, match=r"no module xml.deeper in .* or installed"):
        find("xml.deeper:task", folder)


def test_of_two_folders_each_has_its_own(folder: Path) -> None:
    for part in ("one", "two"):
        (folder / part).mkdir()
        (folder / part / "random.py").write_text(f"def task(): return {part!r}\n")
        task = find("random:task", folder / part)
        assert callable(task)
        assert task() == part


def test_what_an_installed_module_lacks_is_explained_where_a_file_here_has_its_name(folder: Path) -> None:
    (folder / "queue.py").write_text("def fill(): pass\n")
    (folder / "asks.py").write_text("from queue import fill\n\ndef task(): pass\n")
    with pytest.raises(UserCodeError, match=r"cannot import name 'fill'.*asks.py:1\); queue is not .*queue.py.*rename"):
        find("asks:task", folder)


def test_a_module_of_the_users_that_fails_is_not_kept(folder: Path) -> None:
    (folder / "random.py").write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(UserCodeError, match=r"importing random failed: ZeroDivisionError.*random.py:1"):
            find("random:task", folder)


def test_looking_into_an_object_may_fail(folder: Path) -> None:
    (folder / "odd.py").write_text(
        "class Odd:\n    def __getattr__(self, name):\n        raise OSError('not now')\n\nodd = Odd()\nnumber = 3\n"
    )
    with pytest.raises(UserCodeError, match=r"looking for task failed: OSError: not now \(.*odd.py:3\)"):
        find("odd:odd.task", folder)
    with pytest.raises(ConfigError, match="odd has no task; known: none"):
        find("odd:number.task", folder)


def test_a_clone_that_is_not_installed_starts_in_a_folder_with_names_of_other_modules(tmp_path: Path) -> None:
    """`python -m gossipdistill` itself puts the folder first, before anything of ours is asked."""
    (tmp_path / "secrets.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "rich.py").write_text("raise SystemExit('the wrong one')\n")
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-m", "gossipdistill", "--version"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith("gossipdistill ")
