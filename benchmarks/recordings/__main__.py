"""See the text of the package."""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import recordings


def main() -> int:
    """Exit code 1 where something is not as recorded."""
    parser = argparse.ArgumentParser(description=recordings.__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="by default all")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="compare with what is recorded")
    what.add_argument("--record", action="store_true", help="record anew")
    parser.add_argument("--storms", type=int, default=0, help="the first N seeds; by default all that are recorded")
    parser.add_argument("--jobs", type=int, default=1, help="storms side by side")
    parser.add_argument("--without-launchers", action="store_true", help="no run_files of `run` and `compare`")
    asked = parser.parse_args()
    os.environ.update(recordings.KERNELS, OMP_NUM_THREADS="1")
    from benchmarks.recordings.recorded import recordings as all_recordings  # it imports torch

    known = all_recordings(range(asked.storms), asked.jobs, not asked.without_launchers)
    if unknown := set(asked.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    if asked.record and not asked.names:
        parser.error("name what is to be recorded anew")
    differ = False
    for name in [name for name in known if name in (asked.names or known)]:
        if asked.record:
            known[name].record()
            continue
        text = recordings.told(name, known[name].differences())
        differ = differ or bool(text)
        print(text or f"{name}: as recorded", flush=True)
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
