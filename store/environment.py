"""The variables that the product reads, from the process and from a `.env` file in the working directory.

What the process was given wins over the file, so that one start can be told otherwise without editing it. An unknown
`BYLAW_*` variable is an error, in the file too: a slip of the pen must not leave a protection off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from engine.spelling import nearest
from store.errors import UnfitError

FILE: Final = ".env"
DEFAULT_DATABASE_URL: Final = "sqlite+aiosqlite:///bylaw.db"

#: All variables that some part of the product reads.
VARIABLES: Final = frozenset(
    f"BYLAW_{name}"
    for name in (
        "POLICIES", "DATABASE_URL", "MIGRATE_URL", "REDIS_URL", "POLICY_KEY", "CACHE_KEY", "HTTP", "GRPC", "ADMIN",
        "ADMIN_KEY", "ADMIN_ORIGINS", "ADMIN_RATE_LIMIT",
        "ENVOY_HTTP", "JWKS", "ISSUER", "AUDIENCE", "TENANT_CLAIM", "ROLES_CLAIM", "SERVICE_CLAIM", "PUBLIC_URL",
        "MAX_STALENESS", "CALLERS", "TRUSTED_HOPS", "TLS_CERTIFICATE", "TLS_KEY", "TLS_CLIENT_CA", "RATE_LIMIT",
        "DECISION_LOG", "DECISION_LOG_MASK", "DECISION_LOG_SALT", "DECISION_LOG_SAMPLE", "LOG_FORMAT",
        "ENCRYPTION_KEYS",
    )
)  # fmt: skip


def environment() -> dict[str, str]:
    """Read the environment of the process, over the `.env` file if there is one.

    Raises:
        UnfitError: the file is no text.
    """
    from dotenv import dotenv_values  # only those that are started by hand read a file

    try:
        written = dotenv_values(FILE)
    except UnicodeDecodeError as error:
        raise UnfitError("bad_settings", f"{FILE} is no UTF-8") from error
    return {name: value for name, value in written.items() if value is not None} | dict(os.environ)


def unknown_variable(environ: Mapping[str, str]) -> str | None:
    """Say which `BYLAW_*` variable nobody reads, and which may have been meant; None: all are known."""
    for name in sorted(environ):
        if name.startswith("BYLAW_") and name not in VARIABLES:
            fix = nearest(name, sorted(VARIABLES))
            return f"unknown variable {name}" + (f"; did you mean {fix}?" if fix else "")
    return None
