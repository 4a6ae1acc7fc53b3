"""For mkdocs: the documents outside of docs/ are pages too, and links between them and docs/ hold on both sides.

In the repository a page of docs/ links to `../peers/README.md`; on the site that page lies at `peers/README.md`, beside
those of docs/. So links are rewritten by one rule: each is resolved in the repository, and a leading `docs/` goes.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OUTSIDE = (
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "peers/README.md",
    "topologies/README.md",
    "faults/README.md",
    "benchmarks/README.md",
    "benchmarks/results/*",
    "experiments/*/README.md",
    "experiments/*/results/*",
    "gossipdistill/tasks/data/README.md",
)
ENDINGS = (".md", ".png")
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", flags=re.M | re.S)
_MARK = re.compile(r"\A(```\w+)[^\n]*")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents outside of docs/, and the README as it is in the repository."""
    root = Path(config.config_file_path).parent
    for pattern in OUTSIDE:
        for file in sorted(root.glob(pattern)):
            if file.suffix in ENDINGS:
                name = file.relative_to(root).as_posix()
                files.append(File.generated(config, name, abs_src_path=str(file)))
    files.append(File.generated(config, "project.md", abs_src_path=str(root / "README.md")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links, but not in code; and drop the marks behind a language, which tests/docs/blocks.py reads."""
    root = Path(config.config_file_path).parent
    source = Path(page.file.abs_src_path or "").relative_to(root).as_posix()
    parts, at = [], 0
    for code in _CODE.finditer(markdown):
        parts += [_rewritten(markdown[at : code.start()], source, page.file.src_uri), _MARK.sub(r"\1", code[0])]
        at = code.end()
    return "".join([*parts, _rewritten(markdown[at:], source, page.file.src_uri)])


def _rewritten(text: str, source: str, uri: str) -> str:
    def target(match: re.Match[str]) -> str:
        link, _, section = match[2].partition("#")
        if "://" in match[2] or not link:
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        there = "project.md" if there == "README.md" else there.removeprefix("docs/")
        near = posixpath.relpath(there, posixpath.dirname(uri) or ".")
        return f"{match[1]}{near}{'#' if section else ''}{section}{match[3]}"

    return _LINK.sub(target, text)
