"""What of the decision log can be set: texts of settings in, checked once, frozen.

An error names the variable and the cure. What is malformed is never read as "nothing": a mask or a rate with a slip in
it would show, or leave out, what nobody meant.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from engine import BylawError
from sidecar.log_sinks import MIB, check_place
from sidecar.masking import MaskPath, parse_masks

#: Decisions that wait to be written; past it they are dropped and counted.
MAX_WAITING: Final = 8192
#: A salt that can be guessed hides nothing.
MIN_SALT: Final = 32
TIMEOUT_S: Final = 10.0
PAUSE_S: Final = 0.25
STOP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Rates:
    """How much of each outcome is in the log, from 0 to 1."""

    allow: float = 1.0
    deny: float = 1.0
    error: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Rates:
        """Read `BYLAW_DECISION_LOG_SAMPLE`: `allow=0.1,deny=1`; what is not named is whole.

        Raises:
            BylawError: an outcome is unknown or named twice, or a rate is none.
        """
        found: dict[str, float] = {}
        for part in filter(None, (each.strip() for each in text.split(","))):
            name, _, rate = (side.strip() for side in part.partition("="))
            if name not in ("allow", "deny", "error") or name in found:
                raise _unfit("SAMPLE", f"`{part}`: name allow, deny and error, each once, like allow=0.1,deny=1")
            with suppress(ValueError):
                found[name] = float(rate)
            if not 0 <= found.get(name, -1) <= 1:
                raise _unfit("SAMPLE", f"`{part}`: a rate is a number from 0 to 1")
        return cls(**found)

    def of(self, answer: dict[str, Any]) -> float:
        """Return the rate of an answer's outcome."""
        if answer["decision"]:
            return self.allow
        return self.error if "error" in answer["context"] else self.deny


WHOLE: Final = Rates()


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is logged, and where to.

    Args:
        place: `stdout`, `file:DIRECTORY`, or the URL of a collector, in which a password may stand.
        masks: paths of what is masked.
        salt: key of the masks' digests; None: a random one for each process.
        rates: how much of each outcome is logged.
        max_waiting: decisions that may wait to be written.
        file_bytes, total_bytes: at which a file ends, and of all files of a process before the oldest goes.
        timeout_s: how long a collector may take to answer.
        pause_s: the first pause after a failure.
        stop_s: how long stopping may take.
    """

    place: str = field(repr=False)
    masks: tuple[MaskPath, ...] = ()
    salt: str | None = field(default=None, repr=False)
    rates: Rates = WHOLE
    max_waiting: int = MAX_WAITING
    file_bytes: int = 64 * MIB
    total_bytes: int = 1024 * MIB
    timeout_s: float = TIMEOUT_S
    pause_s: float = PAUSE_S
    stop_s: float = STOP_S

    @classmethod
    def parse(
        cls, place: str, *, masks: str | None = None, salt: str | None = None, sample: str | None = None
    ) -> LogOptions:
        """Read the settings: `BYLAW_DECISION_LOG`, and those that begin with `BYLAW_DECISION_LOG_`.

        Raises:
            BylawError: something is unknown, malformed or not safe.
        """
        if salt is not None and len(salt) < MIN_SALT:
            raise _unfit("SALT", f"a salt has {MIN_SALT} characters at least; `openssl rand -hex 32` makes one")
        return cls(check_place(place), parse_masks(masks or ""), salt, Rates.parse(sample or ""))


def _unfit(name: str, message: str) -> BylawError:
    return BylawError("bad_settings", f"BYLAW_DECISION_LOG_{name}: {message}")
