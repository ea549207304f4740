"""Masking: values that a line of the decision log must not show, by their path.

Comes in: what a line is to say, `{"context": …, "caller": …, "request_id": …, "path": …, "input": …}`. Goes out: the
same with a digest in the place of each masked value, and the list of the paths that masked something. The digest is an
HMAC of the value's canonical JSON: the same value is recognised wherever it stands, and nobody finds it by trying who
does not have the salt.

    input.context.ip      input.subject_properties.*      input.subject       `*` is any one member, or item of a list

One thing is named in several places, so masking one alone would hide nothing:

- What is masked as a subject, tenant or resource is masked wherever else in the line it is a whole value or the id of a
  reference, as the place in `by`, and as a segment of a path.
- With `input.tenant` go the other members that name one, and the path; with any of them the revision, in which a digest
  of it stands.
- With the resource goes the path, which names it; and with the path the place in `by`.
- With anything of `input` that is there goes the sentence of an error, which may quote it.

Values of `context` and of properties are masked in their own place only: were they looked for elsewhere, whoever sends
`{"note": "task:t1"}` could hide from the log what he asked about.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote

from engine import BylawError
from engine.spelling import nearest
from sidecar.log_lines import INPUT_MEMBERS, OBJECTS, Json, written

MASKED: Final = "masked:"
#: Hexadecimal digits of a digest: 128 bits.
DIGITS: Final = 32
ANY: Final = "*"
MaskPath = tuple[str, ...]

#: What may be masked, the rest is how a decision is found, counted and asked again; and what of it has members.
_DEEP: Final = frozenset({"input", f"input.{ANY}", "context.error", "context.obligations"}) | {
    f"input.{name}" for name in OBJECTS
}
_FLAT: Final = frozenset(
    {"caller", "request_id", "path", "context.at", "context.because", "context.by", "context.revision"}
) | {f"input.{name}" for name in INPUT_MEMBERS - OBJECTS}

_MESSAGE: Final = ("context", "error", "message")
_HTTP_PATH: Final = ("input", "path")
_RESOURCE: Final = ("input", "resource")
_TENANTS: Final = (
    ("input", "tenant"),
    ("input", "token_tenant"),
    ("input", "subject_properties", "tenant"),
    ("input", "resource_properties", "tenant"),
)
#: What is masked, and what goes with it.
_COMPANIONS: Final = ((_TENANTS[0], (*_TENANTS, _HTTP_PATH)), (_RESOURCE, (_HTTP_PATH,)))
#: What names somebody or something that may be named elsewhere, too.
_NAMES: Final = (*_TENANTS, ("input", "subject"), _RESOURCE, ("input", "resource_properties", "parent"), _HTTP_PATH)
_BETWEEN_SEGMENTS: Final = re.compile(r"[/?&=#]")


def parse_masks(text: str) -> tuple[MaskPath, ...]:
    """Read `BYLAW_DECISION_LOG_MASK`: paths between commas.

    Raises:
        BylawError: a path leads nowhere, or to what must be seen.
    """
    return tuple(_parse_path(part.strip()) for part in text.split(",") if part.strip())


def _parse_path(text: str) -> MaskPath:
    path = tuple(text.split("."))
    root = text if text in _FLAT else ".".join(path[:2])
    if "" in path or root not in _FLAT | _DEEP:
        fix = nearest(root, sorted(_FLAT | _DEEP))
        cure = f"did you mean `{fix}`?" if fix else f"there are {', '.join(sorted(_FLAT | _DEEP))}"
        raise BylawError("bad_settings", f"BYLAW_DECISION_LOG_MASK: nothing to be masked at `{text}`; {cure}")
    if root in _FLAT and root != text:
        raise BylawError("bad_settings", f"BYLAW_DECISION_LOG_MASK: `{text}`: `{root}` is a text and has no members")
    return path


class Masks:
    """Masks lines.

    Args:
        paths: of what is masked.
        salt: key of the digests.
    """

    def __init__(self, paths: Iterable[MaskPath], salt: bytes) -> None:
        self._paths = [(path, ".".join(path)) for path in sorted(_with_companions(paths))]
        self._salt = salt

    def __bool__(self) -> bool:
        return bool(self._paths)

    def digest(self, value: object) -> str:
        """Return what stands in the place of a value."""
        return MASKED + hmac.digest(self._salt, written(value).encode(), "sha256").hex()[:DIGITS]

    def apply(self, record: Json) -> tuple[Json, list[str]]:
        """Mask what a line says; return it with the paths that masked something."""
        hits: set[str] = set()
        masked: Json = self._walk(record, self._paths, hits)
        if any(path.startswith("input") for path in hits):
            masked = self._walk(masked, [(_MESSAGE, ".".join(_MESSAGE))], hits)
        changed = [path for path in _NAMES if _at(record, path) != _at(masked, path)]
        if not changed:
            return masked, sorted(hits)
        names = {name for path in changed for name in _names_of(_at(record, path))}
        context = self._hide_in_context(masked["context"], changed, names)
        hits.update(f"context.{name}" for name in context if context[name] != masked["context"][name])
        given = self._hide_in_input(masked["input"], names)
        rest = {name: self._hide(masked[name], names) for name in masked.keys() - {"context", "input"}}
        if _HTTP_PATH in changed:  # where it was asked may be the same with something before it
            rest["path"] = self.digest(record["path"])
        return {**rest, "context": context, "input": given}, sorted(hits)

    def cover(self, record: Json) -> tuple[Json, list[str]]:
        """Mask what may be long in a question, its objects and the path, to make it short; nothing else is a secret."""
        given = record["input"]
        names = [name for name, item in given.items() if isinstance(item, dict) or name == "path"]
        covered = given | {name: self.digest(given[name]) for name in names}
        path = self.digest(record["path"]) if "path" in given else record["path"]
        return record | {"input": covered, "path": path}, [f"input.{name}" for name in names]

    def _walk(self, value: Any, tails: Sequence[tuple[MaskPath, str]], hits: set[str]) -> Any:
        """Mask what paths lead to; each as far as it still goes, and as it was written."""
        if value is None or not tails:
            return value
        whole = [text for tail, text in tails if not tail]
        if whole:
            hits.update(whole)
            return self.digest(value)
        if isinstance(value, dict):
            heads = {tail[0] for tail, _ in tails}
            named = value if ANY in heads else heads & value.keys()
            return value | {name: self._walk(value[name], _beyond(tails, name), hits) for name in named}
        if isinstance(value, list):
            return [self._walk(item, _beyond(tails, ANY), hits) for item in value]
        return value

    def _hide(self, value: Any, names: set[str]) -> Any:
        """Mask every value that names something masked."""
        if isinstance(value, dict):
            return {name: self._hide(item, names) for name, item in value.items()}
        if isinstance(value, list):
            return [self._hide(item, names) for item in value]
        return self.digest(value) if isinstance(value, str) and _is_named(value, names) else value

    def _hide_in_input(self, given: Any, names: set[str]) -> Any:
        """Mask names in an input; what is done is none."""
        if not isinstance(given, dict):
            return given
        return {name: item if name in ("action", "method") else self._hide(item, names) for name, item in given.items()}

    def _hide_in_context(self, context: Json, changed: Sequence[MaskPath], names: set[str]) -> Json:
        """Mask the place in `by`, and the revision, where they tell what is masked."""
        hidden = {}
        by, revision = context.get("by") or "", context.get("revision") or MASKED
        place = by.partition(" on ")[2]
        if place and (_HTTP_PATH in changed or _is_named(place, names)):
            hidden["by"] = by.removesuffix(place) + self.digest(place)
        if not revision.startswith(MASKED) and any(path in _TENANTS for path in changed):
            hidden["revision"] = self.digest(revision)
        return context | hidden


def _with_companions(paths: Iterable[MaskPath]) -> set[MaskPath]:
    """Add what must go with what is masked."""
    found = set(paths)
    for of, companions in _COMPANIONS:
        if any(_covers(path, of) for path in found):
            found.update(companions)
    return found


def _covers(path: MaskPath, other: MaskPath) -> bool:
    return len(path) <= len(other) and all(part in (ANY, own) for part, own in zip(path, other, strict=False))


def _beyond(tails: Sequence[tuple[MaskPath, str]], name: str) -> list[tuple[MaskPath, str]]:
    return [(tail[1:], text) for tail, text in tails if tail[0] in (name, ANY)]


def _at(value: Any, path: MaskPath) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _names_of(value: Any) -> Iterator[str]:
    """List a name, and the id in it; a path is only itself."""
    if isinstance(value, str) and value:
        yield value
        identity = value.partition(":")[2]
        if identity and not value.startswith("/"):
            yield identity


def _is_named(text: str, names: set[str]) -> bool:
    """Say whether a text is a name, a reference to what has it, or a path that leads there."""
    if text in names or text.partition(":")[2] in names:
        return True
    return "/" in text and any(unquote(part) in names for part in _BETWEEN_SEGMENTS.split(text))
