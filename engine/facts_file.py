"""Facts files: YAML, in which every scalar is read as written, as a string.

PyYAML is the one library beside the standard one in this package, imported when a file is read: a reader of YAML of our
own would be worse.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from engine.errors import FactsError
from engine.facts_builder import SECTIONS, Document


def read_file(path: str | Path) -> bytes:
    """Read a facts file's text.

    Raises:
        FactsError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FactsError("unreadable", f"{path}: {error.strerror}") from error


def digest_of(text: bytes) -> str:
    """Name a state of the facts by the file's text."""
    return hashlib.sha256(text).hexdigest()[:16]


def parse_document(text: bytes, name: str) -> Document:
    """Parse a facts file's text: mappings, lists and strings.

    Raises:
        FactsError: it is no YAML, or says a key twice.
    """
    import yaml  # costs start-up

    class Loader(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]  # the C reader where there is one
        """All scalars as strings; a key that stands twice is an error, not a silent choice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str):
                    raise yaml.constructor.ConstructorError(None, None, "a key is a string", key_node.start_mark)
                if key in found:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"`{key}` stands here twice", key_node.start_mark
                    )
                found[key] = self.construct_object(value_node, deep=True)
            return found

    Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node, deep=True))
    try:
        document = yaml.load(text, Loader)  # noqa: S506  # a base loader: it makes strings, lists and mappings, nothing else
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FactsError("bad_yaml", f"{name}: {' '.join(str(error).split())}") from error
    if document in (None, ""):
        return {}
    if not isinstance(document, dict):
        raise FactsError("bad_facts", f"{name}: the file holds one mapping: {', '.join(SECTIONS)}")
    return document
