"""Are the keys in order: this peer's secret, the public keys of all, and the keys that the others really use?"""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, Keys, ok, problem, warning


def check(case: Case) -> list[Finding]:
    """One finding on this peer's key, one on the keys of the roster, and one per peer that uses another key."""
    keys = case.keys
    if keys is None:
        return []
    if not keys.needed:
        return [ok("keys", "are not needed: all addresses are on this machine")]
    found = [_mine(case, keys), _everybodys(case, keys)]
    for name, key in keys.others.items():
        text = f"calls from its address with another key than the roster's: {key}"
        advice = (
            f"if that is its key: gossipdistill keys trust {name} KEY --replace --peers {case.where}, on all machines"
        )
        found.append(problem(name, text, advice))
    return found


def _mine(case: Case, keys: Keys) -> Finding:
    about = case.name or "this machine"
    if keys.problem:
        return problem(about, keys.problem, keys.advice)
    if not keys.secret:
        return ok(about, "no secret is looked for, since it is not known which peer this machine is")
    return ok(about, f"its secret {keys.secret} fits its public key in the roster")


def _everybodys(case: Case, keys: Keys) -> Finding:
    make = f"gossipdistill keys new --peers {case.where}"
    if keys.missing:
        names = ", ".join(keys.missing[:8]) + (", ..." if len(keys.missing) > 8 else "")
        advice = f"{make} (and copy the roster to all machines); with `worker --join` they may enrol instead"
        return problem("all peers", f"the roster has no public key of {names}", advice)
    if keys.revoked:
        advice = f"gossipdistill keys trust {keys.revoked[0]} KEY --peers {case.where} ends that"
        return warning("all peers", f"revoked, and not listened to: {', '.join(keys.revoked[:8])}", advice)
    return ok("all peers", "have a public key in the roster")
