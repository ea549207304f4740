"""Attributes as they are stored: canonical JSON text, so that equal ones are equal texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from store.errors import RefusedError

Attributes = Mapping[str, Any]


def canonical(attributes: Attributes | None) -> str:
    """Write attributes down: sorted names, no spaces. What they mean is the policy's, for callers to check.

    Raises:
        RefusedError: it is no JSON object, or holds a character that a database cannot.
    """
    found = dict(attributes or {})
    for each in _texts(found):
        if "\0" in each or any("\ud800" <= character <= "\udfff" for character in each):
            raise RefusedError("bad_attributes", "an attribute has a NUL or half a character in it: leave it out")
    try:
        return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RefusedError("bad_attributes", "attributes are a JSON object: names, and JSON values") from error


def names_of(attributes: Attributes | None) -> list[str]:
    """List what an audit row says of attributes: their names. A value may be about a person, and must be erasable."""
    return sorted(attributes or {})


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if not isinstance(name, str):
                raise RefusedError("bad_attributes", "the name of an attribute is a string")
            yield name
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
