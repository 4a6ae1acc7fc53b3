"""What the documents name exists: tests, files, folders, modules to run, and pages that they link to."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import gossipdistill
import gossipdistill.testing

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def _named(pattern: str) -> list[tuple[str, str]]:
    return sorted({(path.name, found) for path in DOCUMENTS for found in re.findall(pattern, path.read_text("utf-8"))})


@pytest.mark.parametrize(("document", "test"), _named(r"`(tests/[\w/]+\.py::\w+)`"))
def test_a_test_that_is_named_is_there(document: str, test: str) -> None:
    file, _, name = test.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text("utf-8"), flags=re.M), f"{document}: {test}"


def test_files_and_modules_that_are_named_are_there() -> None:
    for document, path in _named(r"`((?:tests|benchmarks|experiments|docs|faults|gossipdistill)/[\w/.-]+)`"):
        near = [base / f"{path}{end}" for base in (ROOT, ROOT / "gossipdistill") for end in ("", ".py")]
        assert any(one.exists() for one in near), f"{document}: {path}"
    for document, module in _named(r"python -m ((?:experiments|benchmarks|gossipdistill)[\w.]*\w)"):
        assert importlib.util.find_spec(module) is not None, f"{document}: {module}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


LINKING = [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md")]


@pytest.mark.parametrize("path", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_sections_that_are_there(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, section = target.partition("#")
        if "://" in target:
            continue
        page = path.parent / file if file else path
        assert page.exists(), f"{path.name}: {target}"
        titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.M) if section else []
        assert not section or section in {slug(title) for title in titles}, f"{path.name}: {target}"


def slug(title: str) -> str:
    """The name of a section in links, as forges and mkdocs make it."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())


def test_all_that_is_exported_is_on_the_page_of_the_python_interface() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    exported = [f"gossipdistill.{name}" for name in gossipdistill.__all__ if not name.startswith("_")]
    exported += [f"gossipdistill.testing.{name}" for name in gossipdistill.testing.__all__]
    assert [name for name in exported if f"::: {name}\n" not in page] == []
