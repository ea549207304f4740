"""How something was asked for that is judged again later: in an approval, or when an invitation is accepted.

    Actor ──▶ written: what its request said, as JSON, encrypted if there are keys ──▶ the store
    the store ──▶ read_actor ──▶ Actor, to be judged as he was then

An `assign` may read the context: where somebody asks from, what his token claims. What is kept is the context that the
policy declares, and the tenant of his token, and nothing where both are empty. Claimed roles are not kept: they give no
right, and by the time of judging the token that claimed them is over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from admin.encryption import MAX_LONG_BYTES, DecryptionError, KeyRing, Place, is_sealed
from admin.errors import PublicError
from engine.assign_changes import Actor


def written(ring: KeyRing | None, actor: Actor, place: Place) -> str | None:
    """Write down how an actor asks; None: there is nothing to keep."""
    if not actor.context and actor.token_tenant is None:
        return None
    said = json.dumps({"context": dict(actor.context), "token_tenant": actor.token_tenant}, ensure_ascii=False)
    return said if ring is None else ring.encrypt(said, place, max_bytes=MAX_LONG_BYTES)


def read_actor(ring: KeyRing | None, reference: str, said: str | None, place: Place) -> Actor:
    """Read how somebody asked.

    Raises:
        PublicError: it was encrypted by a key that is not here.
    """
    if said is None:
        return Actor(reference)
    return actor_of(reference, json.loads(_opened(ring, said, place)))


def actor_of(reference: str, said: Mapping[str, Any]) -> Actor:
    """Say who asked, by what is known of it."""
    return Actor(reference, said["context"], (), said["token_tenant"])


def place_of(tenant: str, kind: str, identity: str) -> Place:
    """Say where it is kept."""
    return Place(tenant, "circumstances", "said", (kind, identity))


def _opened(ring: KeyRing | None, said: str, place: Place) -> str:
    if not is_sealed(said):
        return said
    try:
        if ring is not None:
            return ring.decrypt(said, place)
    except DecryptionError:
        pass
    raise PublicError(
        409,
        "no_keys",
        "how this was asked for cannot be read with the keys of this service, so nobody can judge it: put the key back "
        "into BYLAW_ENCRYPTION_KEYS, or have it asked for anew",
    )
