"""What the application holds, each under a typed key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sidecar.decider import Decider
from sidecar.policies import Policies
from sidecar.settings import Settings
from sidecar.siblings import Siblings
from sidecar.tellings import Tellings
from sidecar.traffic import Traffic

SETTINGS = web.AppKey("SETTINGS", Settings)
if TYPE_CHECKING:
    from sidecar.jwks import Keys  # cryptography, which not every process has
    from sidecar.keeper import Keeper  # it brings the database along, the same

DECIDER: web.AppKey[Decider] = web.AppKey("DECIDER")
#: What follows the store; None where facts come from a file.
KEEPER: web.AppKey[Keeper | None] = web.AppKey("KEEPER")
#: Tells of what the service stands on, beside its policy, by name.
Checks = Callable[[], dict[str, dict[str, Any]]]
CHECKS: web.AppKey[Checks] = web.AppKey("CHECKS")
POLICIES = web.AppKey("POLICIES", Policies)
TRAFFIC = web.AppKey("TRAFFIC", Traffic)
TELLINGS = web.AppKey("TELLINGS", Tellings)
#: What not every process has: the other processes on the port, and keys of end users' tokens.
SIBLINGS = web.AppKey("SIBLINGS", Siblings)
ISSUER_KEYS: web.AppKey[Keys] = web.AppKey("ISSUER_KEYS")
#: Where clients reach the service, as settings have it; None where no URL leads here.
BASE_URL: web.AppKey[str | None] = web.AppKey("BASE_URL")
