"""`bylaw admin grant`, `members`, `show` and the other verbs: common tasks, asked of a running administration service.

They speak HTTP with a key, and may do what the key may: nothing here looks into the store. What comes back is shown as
a table, or with `--json` as the service said it. Texts of the service are stripped of what would mean something to a
terminal: ids and attributes are other people's words.

Exit 0: done. 1: the service said no, or it is not done yet: it waits for approval, or does not count everywhere yet.
2: it could not be asked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bylaw.log_chains import printable
from bylaw.output import GREEN, RED, paint, print_json, table
from engine.errors import BylawError

if TYPE_CHECKING:
    from bylaw.admin_api import Conversation, Said

Json = dict[str, Any]
SYSTEM: Final = "system"
#: Of what has a status of its own, in all tenants.
_COLLECTIONS: Final = {"user": "users", "service": "services", "tenant": "tenants"}
#: What lists show of it.
_MEMBERSHIP: Final = {"subject": "SUBJECT", "status": "STATUS", "starts": "FROM", "expires": "UNTIL"}
_HELD: Final = {"role": "ROLE", "on": "ON", "starts": "FROM", "expires": "UNTIL"}
_HOLDERS: Final = {"subject": "SUBJECT", "role": "ROLE", "starts": "FROM", "expires": "UNTIL"}
_TENANT: Final = {"id": "TENANT", "status": "STATUS"}
_ACCESS: Final = {"action": "ACTION", "decision": "", "code": "CODE", "by": "BY", "at": "AT", "because": "BECAUSE"}


class Outcome(NamedTuple):
    """What a verb came to.

    Args:
        said: for machines.
        told: for people. aside: for them alone, and not for what reads the output.
    """

    said: Json
    told: str
    code: int = 0
    aside: str | None = None


Verb = Callable[["Conversation", argparse.Namespace], Outcome]


def run_verb(environ: Mapping[str, str], args: argparse.Namespace) -> int:
    """Ask, and show what was answered."""
    from bylaw.admin_api import Conversation, RefusedError, read_place
    from bylaw.commands.admin import DEFAULT
    from store.environment import unknown_variable

    fault = unknown_variable(environ)
    if fault is not None:
        raise BylawError("bad_settings", fault)
    place = read_place(args.url or environ.get("BYLAW_ADMIN") or DEFAULT)
    conversation = Conversation(place, _key(args.key_file, environ))
    try:
        found = _verb(args.step)(conversation, args)
    except RefusedError as error:
        return _refused(error, as_json=args.json)
    except BylawError as error:
        raise BylawError(error.code, _shown_lines(error.message)) from error
    if args.json:
        print_json(found.said)
        return found.code
    if found.aside is not None:
        print(f"bylaw: {found.aside}", file=sys.stderr)
    print(found.told)
    return found.code


def _refused(error: BylawError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": error.code, "message": error.message}), file=sys.stderr)
    else:
        print(f"bylaw: {_shown_lines(error.message)}", file=sys.stderr)
    return 1


def _shown_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))


def _key(file: str | None, environ: Mapping[str, str]) -> str:
    """Read the key; never from a command line, which shows it to everybody on the machine.

    Raises:
        BylawError: there is none, or what is there is none.
    """
    if file is not None:
        try:
            found = Path(file).read_text(encoding="utf-8").strip()
        except UnicodeDecodeError as error:
            raise BylawError("bad_key", f"--key-file: {file} holds no key") from error
        where = f"--key-file: {file}"
    else:
        found, where = environ.get("BYLAW_ADMIN_KEY", "").strip(), "BYLAW_ADMIN_KEY"
    if not found:
        raise BylawError(
            "no_key",
            "no key: set BYLAW_ADMIN_KEY or name a file with --key-file; `bylaw admin bootstrap` makes the first one",
        )
    if not found.isascii() or not found.isprintable() or " " in found:
        raise BylawError("bad_key", f"{where} holds no key")
    return found


# --- verbs --------------------------------------------------------------------------------------------------------


def _create_tenant(on: Conversation, args: argparse.Namespace) -> Outcome:
    return _make(on, args, ["tenants"], {"id": args.id}, f"made tenant {args.id}")


def _add_user(on: Conversation, args: argparse.Namespace) -> Outcome:
    return _make(on, args, ["users"], {"id": args.id}, f"made user:{args.id}")


def _make(on: Conversation, args: argparse.Namespace, parts: list[str], body: Json, done: str) -> Outcome:
    if args.attributes is not None:
        body = {**body, "attributes": _attributes(args.attributes)}
    return write(on, args, "POST", parts, body, done)


def _attributes(written: str) -> object:
    try:
        found = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise BylawError("bad_request", '--attributes: this is no JSON; write \'{"plan": "pro"}\'') from error
    if not isinstance(found, dict):
        raise BylawError("bad_request", '--attributes: write an object, \'{"plan": "pro"}\'')
    return found


def _add_member(on: Conversation, args: argparse.Namespace) -> Outcome:
    body = _without_none({"subject": args.subject, "status": args.status, "expires": args.expires})
    done = f"{args.subject} is in {args.tenant}" + (f", as {args.status}" if args.status else "")
    return write(on, args, "POST", _of_tenant(args, "memberships"), body, done)


def _remove_member(on: Conversation, args: argparse.Namespace) -> Outcome:
    parts = _of_tenant(args, "memberships", args.subject)
    return write(on, args, "DELETE", parts, None, f"{args.subject} is in {args.tenant} no more")


def _invite(on: Conversation, args: argparse.Namespace) -> Outcome:
    """Invite somebody; the token is all that he needs, and shown this once."""
    roles = [{"role": role, "on": place} for role, place in args.role or ()]
    body = {"email": args.email, "status": args.status, "roles": roles, "expires": args.expires}
    found = write(on, args, "POST", _of_tenant(args, "invitations"), _without_none(body), "invited")
    token, until = found.said.get("token"), printable(str(found.said.get("expires")))
    if not isinstance(token, str):
        raise BylawError("bad_answer", "the service made an invitation without a token: is it of this version?")
    aside = f"an invitation to {printable(args.tenant)}, until {until}: whoever has its token may accept it, so send it"
    return found._replace(told=printable(token), aside=f"{aside} to the invited alone; it is printed this once")


def _suspend(on: Conversation, args: argparse.Namespace) -> Outcome:
    return _set_status(on, args, "suspended")


def _resume(on: Conversation, args: argparse.Namespace) -> Outcome:
    return _set_status(on, args, args.status or "active")


def _set_status(on: Conversation, args: argparse.Namespace, status: str) -> Outcome:
    """Set the status of a membership, or where no tenant is named of somebody everywhere, or of a tenant."""
    kind, _, identity = args.subject.partition(":")
    if args.tenant is not None:
        parts, where = _of_tenant(args, "memberships", args.subject), f" in {args.tenant}"
    elif kind in _COLLECTIONS and status != "guest":
        parts, where = [_COLLECTIONS[kind], identity], ""
    else:
        raise BylawError("bad_request", "write user:ID, service:ID or tenant:ID; a guest is one in a --tenant")
    return write(on, args, "PATCH", parts, {"status": status}, f"{args.subject} is {status}{where}")


def _grant(on: Conversation, args: argparse.Namespace) -> Outcome:
    body = _without_none({"subject": args.subject, "role": args.role, "on": args.on, "expires": args.expires})
    return write(on, args, "POST", _assignments(args), body, f"{args.subject} holds {args.role} on {args.on}")


def _revoke(on: Conversation, args: argparse.Namespace) -> Outcome:
    """Take a role away, as often as it is held there: once for each time at which it starts."""
    from bylaw.admin_api import RefusedError, path_of

    is_system = args.on == SYSTEM
    query = {} if is_system else {"subject": args.subject, "on": args.on}
    listed = on.pages(path_of(*_assignments(args)), query)
    names = {args.role, f"{args.on.partition(':')[0]}.{args.role}"}
    held = [each for each in listed if each.get("subject") == args.subject and each.get("role") in names]
    if not held:
        raise RefusedError("not_found", f"{args.subject} does not hold {args.role} on {args.on}")
    done = f"{args.subject} holds {args.role} on {args.on} no more"
    found = [write(on, args, "DELETE", [*_assignments(args), each["id"]], None, done) for each in held]
    return max(found, key=lambda each: each.code) if any(each.code for each in found) else found[-1]


def _show(on: Conversation, args: argparse.Namespace) -> Outcome:
    """Show one subject in a tenant: whether it is a member, in which groups it is, and what it holds."""
    from bylaw.admin_api import RefusedError, path_of

    try:
        member = on.ask("GET", path_of(*_of_tenant(args, "memberships", args.subject))).body
    except RefusedError as error:
        if error.code != "not_found":
            raise
        member = None
    groups = sorted(_groups(on, args))
    holders = [args.subject, *(f"group:{name}" for name in groups)]
    listed = (on.pages(path_of(*_assignments(args, anywhere=True)), {"subject": each}) for each in holders)
    held = [each for one in listed for each in one]
    said = {"subject": args.subject, "tenant": args.tenant, "membership": member, "groups": groups, "roles": held}
    if member is None and not groups and not held:
        raise RefusedError("not_found", f"{args.subject} is not in {args.tenant}, and holds nothing there")
    return Outcome(said, "\n".join(_told_of(args, member, groups, held)))


def _groups(on: Conversation, args: argparse.Namespace) -> set[str]:
    """Find the tenant's groups in which a subject is, also through others."""
    from bylaw.admin_api import path_of

    path = path_of(*_of_tenant(args, "groups"))
    found: set[str] = set()
    refs = {args.subject}
    while refs:
        reached = {str(each["id"]) for ref in sorted(refs) for each in on.pages(path, {"member": ref})} - found
        found |= reached
        refs = {f"group:{name}" for name in reached}
    return found


def _told_of(args: argparse.Namespace, member: Json | None, groups: list[str], held: list[Json]) -> list[str]:
    status = "no member" if member is None else str(member.get("status"))
    until = f", until {member['expires']}" if member is not None and member.get("expires") else ""
    lines = [f"{args.subject} in {args.tenant}: {status}{until}"]
    if groups:
        lines.append(f"in groups: {', '.join(groups)}")
    lines = [printable(each) for each in lines]
    if not held:
        return [*lines, "holds no role"]
    columns = ({"subject": "HELD BY"} if groups else {}) | _HELD
    return [*lines, "", show_table(columns, held)]


def _members(on: Conversation, args: argparse.Namespace) -> Outcome:
    from bylaw.admin_api import path_of

    found = list(on.pages(path_of(*_of_tenant(args, "memberships")), {"status": args.status}))
    return Outcome({"items": found}, show_table(_MEMBERSHIP, found) if found else f"{args.tenant} has no such members")


def _tenants(on: Conversation, args: argparse.Namespace) -> Outcome:
    from bylaw.admin_api import path_of

    found = list(on.pages(path_of("tenants"), {"status": args.status, "prefix": args.prefix}))
    return Outcome({"items": found}, show_table(_TENANT, found) if found else "there are no such tenants")


def _holders(on: Conversation, args: argparse.Namespace) -> Outcome:
    """List who holds what on something: in a tenant, or on the system."""
    from bylaw.admin_api import path_of

    query = {} if args.on == SYSTEM else {"on": args.on}
    found = list(on.pages(path_of(*_assignments(args)), query))
    return Outcome(
        {"items": found}, show_table(_HOLDERS, found) if found else f"nobody holds a role on {args.on} itself"
    )


def _tree(on: Conversation, args: argparse.Namespace) -> Outcome:
    """Show what lies in what: resources of a tenant, or its groups."""
    from bylaw.admin_api import path_of

    kind, _, name = (args.thing or "").partition(":")
    is_of_groups = args.groups or kind == "group"
    query = {"view": "tree", "depth": args.depth}
    if args.thing is not None:
        query |= {"inside": name} if is_of_groups else {"parent": args.thing}
    found = list(on.pages(path_of(*_of_tenant(args, "groups" if is_of_groups else "resources")), query))
    lines = [line for each in found for line in _branch(each, 0)]
    return Outcome({"items": found}, "\n".join(lines) if lines else f"nothing lies in {args.thing or args.tenant}")


def _branch(node: Json, level: int) -> Iterator[str]:
    """Lay a tree out; `…` stands where there may be more than was asked for."""
    yield "  " * level + printable(str(node.get("id")))
    for each in node.get("inner") or ():
        yield from _branch(each, level + 1)
    if node.get("more"):
        yield "  " * (level + 1) + "…"


def _what_can(on: Conversation, args: argparse.Namespace) -> Outcome:
    from bylaw.admin_api import path_of

    query = {"subject": args.subject, "resource": args.on}
    found = list(on.pages(path_of(*_of_tenant(args, "access")), query))
    shown = [{**each, "decision": _mark(each.get("decision"))} for each in found]
    return Outcome(
        {"items": found}, show_table(_ACCESS, shown) if shown else f"there is nothing that could be done with {args.on}"
    )


def _mark(decision: object) -> str:
    return "✓" if decision is True else "✗"


VERBS: Final[Mapping[str, Verb]] = {
    "create-tenant": _create_tenant,
    "add-user": _add_user,
    "add-member": _add_member,
    "remove-member": _remove_member,
    "invite": _invite,
    "suspend": _suspend,
    "resume": _resume,
    "grant": _grant,
    "revoke": _revoke,
    "show": _show,
    "members": _members,
    "tenants": _tenants,
    "holders": _holders,
    "tree": _tree,
    "what-can": _what_can,
}


def _verb(word: str) -> Verb:
    if word in VERBS:
        return VERBS[word]
    from bylaw.commands.admin_policies import VERBS as OF_POLICIES  # it brings the language along

    return OF_POLICIES[word]


# --- writing ------------------------------------------------------------------------------------------------------


def write(
    on: Conversation, args: argparse.Namespace, method: str, parts: list[str], body: Json | None, done: str
) -> Outcome:
    """Ask for a change, and say what came of it.

    Args:
        done: for people, where it was done.
    """
    from bylaw.admin_api import path_of

    found = on.ask(method, path_of(*parts), body, {"await": "settled"} if args.wait else None)
    said = {"revision": found.revision, **found.body}
    if "approval" in found.body:
        return Outcome(said, f"not done yet: {printable(str(found.body.get('message')))}", 1)
    settled = _settled(found) if args.wait else None
    return Outcome(said, printable(done) if settled is None else f"{printable(done)}; {settled[0]}",
                   0 if settled is None else settled[1])  # fmt: skip


def _settled(found: Said) -> tuple[str, int]:
    """Say whether a write counts everywhere."""
    if found.body.get("settled") is True:
        return "it counts everywhere", 0
    return f"it does not count everywhere yet: ask again at /settled/{printable(str(found.revision))}", 1


def _of_tenant(args: argparse.Namespace, *rest: str) -> list[str]:
    if args.tenant is None:
        raise BylawError("bad_request", "--tenant: say in which tenant")
    return ["tenants", args.tenant, *rest]


def _assignments(args: argparse.Namespace, *, anywhere: bool = False) -> list[str]:
    """Say where roles on something are given: those on the system are no tenant's."""
    is_system = not anywhere and args.on == SYSTEM
    return ["assignments"] if is_system else _of_tenant(args, "assignments")


def _without_none(body: Json) -> Json:
    return {name: value for name, value in body.items() if value is not None}


def show_table(columns: Mapping[str, str], rows: Iterable[Json]) -> str:
    """Lay items out; a column in which nothing stands is left out."""
    cells = [{name: "" if row.get(name) is None else printable(str(row[name])) for name in columns} for row in rows]
    shown = [name for name in columns if any(row[name] for row in cells)]
    laid = table([[columns[name] for name in shown], *([row[name] for name in shown] for row in cells)])
    return laid.replace("✓", paint("✓", GREEN)).replace("✗", paint("✗", RED)) if "decision" in columns else laid
