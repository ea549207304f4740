"""What the policy's `context` holds of an end user: the claims of his token, and where he comes from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from engine.model import Attribute, Model
from engine.values import WrongTypeError, convert, parse_ip

Json = dict[str, Any]
#: What a policy's `context` calls the end user's address.
ADDRESS: Final = "ip"
_NO_CLAIMS: Final[Mapping[str, object]] = {}


def context_of(address: str | None, model: Model, claims: Mapping[str, object] = _NO_CLAIMS) -> Json | None:
    """Fill what the policy declares of the context: the end user's address, IPv4 as IPv4 however it came; all else by
    claims of the same name. What is of another type is not there."""
    found: Json = {}
    for name, declared in model.context.items():
        if name == ADDRESS:
            is_text = declared.type.kind in ("ip", "string") and not declared.type.options
            if address is not None and is_text and (written := written_address(address)) is not None:
                found[name] = written
        elif (said := claims.get(name)) is not None and _fits(declared, said, model):
            found[name] = said
    return found or None


def _fits(declared: Attribute, said: object, model: Model) -> bool:
    try:
        convert(declared.type, said, model.aliases)
    except WrongTypeError:
        return False
    return True


@lru_cache(4096)
def written_address(text: str) -> str | None:
    """Write an address in the one way there is for it.

    >>> written_address("::ffff:192.0.2.1")
    '192.0.2.1'
    """
    found = parse_ip(text)
    return None if found is None else str(found)
