"""Rules of personal data. Nothing here commits.

Values are encrypted for the cell that they stand in, so that one that is moved to another person or field does not
read. An address is found by its index alone; what was found is compared with what was asked for, since an index can be
copied by whoever writes to the database.
"""

from __future__ import annotations

from typing import Final

from admin.encryption import DecryptionError, KeyRing, Place, normalised
from admin.endpoint import Ask
from admin.errors import PublicError
from store.changes import Write
from store.database import Connection
from store.writes import personal_data

EMAIL: Final = "email"
_TABLE: Final = "personal_data"
_PURPOSE: Final = "users"


def ring_of(ask: Ask) -> KeyRing:
    """Return the keys.

    Raises:
        PublicError: there are none.
    """
    if ask.services.ring is None:
        raise PublicError(409, "no_keys", "nothing is kept of persons here: set BYLAW_ENCRYPTION_KEYS, and start anew")
    return ask.services.ring


async def put(ring: KeyRing, write: Write, ref: str, field: str, value: str) -> None:
    """Put a value in the place of what was known."""
    index = ring.email_index(value, purpose=_PURPOSE) if field == EMAIL else None
    await personal_data.put(write, ref, field, ring.encrypt(value, _place(ref, field)), blind_index=index)


async def read(ring: KeyRing | None, connection: Connection, ref: str) -> dict[str, str]:
    """Read all that is known.

    Raises:
        PublicError: something of it cannot be read with these keys; it says what.
    """
    known = await read_some(ring, connection, ref)
    if lost := sorted(field for field, value in known.items() if value is None):
        raise PublicError(
            409,
            "no_keys",
            f"{', '.join(lost)}: what is stored cannot be read with the keys of this service: put the key back into "
            "BYLAW_ENCRYPTION_KEYS, or say anew what is known",
        )
    return {field: value for field, value in known.items() if value is not None}


async def read_some(ring: KeyRing | None, connection: Connection, ref: str) -> dict[str, str | None]:
    """Read what is known; None: it cannot be read with these keys."""
    found = await personal_data.read(connection, ref)
    return {field: _opened(ring, value, _place(ref, field)) for field, value in found.items()}


async def find(ring: KeyRing, connection: Connection, address: str) -> str | None:
    """Find whose address it is."""
    index = ring.email_index(address, purpose=_PURPOSE)
    ref = await personal_data.find_by_index(connection, EMAIL, index)
    if ref is None:
        return None
    known = (await read_some(ring, connection, ref)).get(EMAIL)
    return ref if known is not None and normalised(known) == normalised(address) else None


def _opened(ring: KeyRing | None, stored: str, place: Place) -> str | None:
    try:
        return None if ring is None else ring.decrypt(stored, place)
    except DecryptionError:
        return None


def _place(ref: str, field: str) -> Place:
    kind, _, identity = ref.partition(":")
    return Place("", _TABLE, "value", (kind, identity, field))
