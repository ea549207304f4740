"""What the application holds, each under a typed key."""

from __future__ import annotations

from aiohttp import web

from sidecar.decision_id import DecisionIds
from sidecar.policies import Policies
from sidecar.settings import Settings
from sidecar.traffic import Traffic

SETTINGS = web.AppKey("SETTINGS", Settings)
POLICIES = web.AppKey("POLICIES", Policies)
TRAFFIC = web.AppKey("TRAFFIC", Traffic)
IDS = web.AppKey("IDS", DecisionIds)
