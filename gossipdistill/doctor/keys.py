"""The keys of this machine: its secret, the roster's public keys, and whether workers would require them."""

from __future__ import annotations

from pathlib import Path

from gossipdistill.doctor.case import Case, Keys
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.errors import IdentityError
from gossipdistill.keys.choice import on_another_machine
from gossipdistill.keys.secrets import first_there, read_secret, usual_places


def look_at_keys(key: Path | None, secure: bool, case: Case, file: Path) -> tuple[Keys, Curve | None]:
    """The facts about keys, and the keys for the sockets; None where no keys are usable or needed."""
    roster = case.roster
    addresses = [case.listen, case.advertise, *(entry.address for entry in roster.peer)]
    if not (secure or key is not None or on_another_machine(addresses) is not None):
        return Keys(False), None
    missing = tuple(entry.name for entry in roster.peer if entry.public_key is None)
    revoked = tuple(entry.name for entry in roster.peer if entry.revoked)
    if not case.name:
        return Keys(True, missing=missing, revoked=revoked), None
    places = usual_places(case.name, file.parent)
    secret = key if key is not None else first_there(places)
    make = f"gossipdistill keys new --peers {case.where} --name {case.name}"
    if secret is None:
        looked = " and ".join(str(place) for place in places)
        return Keys(True, "", f"there is no secret at {looked}", f"{make}; or --key FILE", missing, revoked), None
    try:
        pair = read_secret(secret, case.name)
    except IdentityError as error:
        problem, _, advice = str(error).partition("; ")
        return Keys(
            True, "", problem, advice or f"give its own with --key FILE, or: {make} --renew", missing, revoked
        ), None
    entry = roster.entry(case.name)
    if entry.public_key not in (None, pair.public):
        text = f"the public key in the roster is not that of {secret}, which is {pair.public}"
        advice = (
            f"if the secret is the right one: gossipdistill keys trust {case.name} KEY --replace --peers {case.where}"
        )
        return Keys(True, "", text, advice, missing, revoked), None
    trusted = {name: public.encode("ascii") for name, public in roster.trusted.items()}
    curve = Curve(pair.public.encode("ascii"), pair.secret.encode("ascii"), trusted)
    return Keys(True, str(secret), missing=missing, revoked=revoked), curve
