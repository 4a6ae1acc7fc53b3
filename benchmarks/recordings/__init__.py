"""Recordings of what a rebuilding must not change, taken anew and compared with those in tests/recordings.

    python -m benchmarks.recordings --check [NAME ...]      exit code 1 where something differs
    python -m benchmarks.recordings --record NAME ...       in a commit that does nothing else, with the reason

| name | what is recorded |
| --- | --- |
| storms | digests of storms by seed (`storms.py`); `--storms N`: the first N seeds, `--jobs N`: side by side |
| losses | what a short training by each strategy comes to, bit for bit (`losses.py`) |
| help | `--help` of every command as it is read: a commit that changes texts alone may record it anew |
| help_without_sentences | the same without sentences: options, what they take, defaults, ranges and their order |
| words | event kinds, exit codes, words of the wire, keys of a run file and their defaults (`words.py`) |
| run_files | keys and types in all files of a run and in what commands print as JSON (`run_files.py`) |
"""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "tests" / "recordings"
KERNELS = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
"""Those that every x86-64 processor has: with others the last bits of a loss differ. They are set before torch is
imported."""
_SHOWN_MAX = 30


def told(name: str, differences: list[str]) -> str:
    """What differs, and what to do if it is meant; empty where nothing differs."""
    if not differences:
        return ""
    more = [f"and {len(differences) - _SHOWN_MAX} more"] if len(differences) > _SHOWN_MAX else []
    remedy = (
        f"If this is meant: `python -m benchmarks.recordings --record {name}`, in a commit of its own that says why."
    )
    return "\n".join([f"{name}: not as recorded", *(f"  {line}" for line in differences[:_SHOWN_MAX] + more), remedy])
