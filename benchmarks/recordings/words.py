"""What is written into files, sent to others, typed by users or read by programs: words, numbers and keys."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from gossipdistill import errors
from gossipdistill.config.key_index import keys
from gossipdistill.events import EventKind
from gossipdistill.faults.kinds import KINDS
from gossipdistill.learning.outcome import Ending
from gossipdistill.messages import FEATURES, DeliveryClass, Mode, Verdict
from gossipdistill.optimizers import OPTIMIZERS
from gossipdistill.presence import ClaimKind, RefusalCode
from gossipdistill.protocol.enrolment import Objection
from gossipdistill.protocol.members import Status
from gossipdistill.strategies import STRATEGIES
from gossipdistill.tasks import TASKS
from gossipdistill.wire.codec import WIRE_VERSION, WireCode
from gossipdistill.wire.encodings import ENCODINGS
from gossipdistill.wire.encodings.raw import CARRIERS

FILE = "words.json"


def words() -> dict[str, Any]:
    """All of them, by where they are met."""
    return {
        "exit codes": exit_codes(),
        "events": _values(EventKind),
        "wire": {
            "version": WIRE_VERSION,
            "features": list(FEATURES),
            "delivery": _values(DeliveryClass),
            "verdicts": _values(Verdict),
            "refusals": _values(RefusalCode),
            "claims": _values(ClaimKind),
            "encodings": list(ENCODINGS),
            "types of entries": CARRIERS,
        },
        "codes of errors": _values(WireCode) + _values(Objection),
        "status of a member": _values(Status),
        "how a training ends": _values(Ending),
        "modes": _values(Mode),
        "faults": {name: list(kind.model_fields) for name, kind in KINDS.items()},
        "strategies": {name: _promises(kind) for name, kind in STRATEGIES.items()},
        "tasks": list(TASKS),
        "optimizers": list(OPTIMIZERS),
        "keys": [f"{key.name}: {key.facts()}{_owners(key.of)}" for key in keys()],
    }


def as_text() -> str:
    """All of them as the file has them."""
    return json.dumps(words(), indent=1) + "\n"


def exit_codes() -> dict[str, int]:
    """Name of an error or of a constant -> the exit code of the process."""
    named = vars(errors).items()
    kinds = {name: value.exit_code for name, value in named if hasattr(value, "exit_code")}
    return kinds | {name: value for name, value in named if name.startswith("EXIT_") and isinstance(value, int)}


def _promises(strategy: Any) -> dict[str, Any]:
    return {"delivery": strategy.delivery.value, "every_steps": strategy.every_steps, "encoding": strategy.encoding}


def _owners(names: tuple[str, ...]) -> str:
    return f"; of {', '.join(names)}" if names else ""


def _values(kind: type[Enum]) -> list[Any]:
    return [member.value for member in kind]
