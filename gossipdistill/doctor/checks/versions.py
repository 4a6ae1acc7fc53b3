"""Are the same versions installed everywhere? Peers of different wire versions cannot talk; other differences are
reported."""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, Meeting, ok, problem, warning


def check(case: Case) -> list[Finding]:
    """One finding per other that was met."""
    return [_one(case, name, met) for name, met in case.meetings.items() if met.kind]


def _one(case: Case, name: str, met: Meeting) -> Finding:
    mine = case.machine.versions
    if met.wire_version and met.wire_version != mine["wire"]:
        text = f"speaks wire version {met.wire_version}, this machine {mine['wire']}: they refuse one another"
        return problem(name, text, "install the same gossipdistill on both")
    if not met.versions:
        return ok(name, f"wire {mine['wire']}; a worker does not say what else is installed")
    differing = [
        f"{what} {there} there, {mine[what]} here" for what, there in met.versions.items() if there != mine.get(what)
    ]
    if differing:
        advice = "the same wire version is enough; equal versions on all machines are recommended"
        return warning(name, "; ".join(differing), advice)
    return ok(name, ", ".join(f"{what} {version}" for what, version in mine.items()))
