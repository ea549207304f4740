"""The command line: `bylaw lint | fmt | test | decide | replay | bundle | serve | dev | migrate | seed | callers |
admin | audit | version`.

Arguments and exit codes are here; what each command does is in `bylaw/commands/`, imported when it is called, so that
`bylaw lint` loads neither a server nor a database. Exit codes: 0 clean or allow, 1 findings, failures or deny, 2 the
command could not run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from engine.errors import BylawError

DESCRIPTION = "Bylaw decides who may do what, in which tenant."


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = argparse.ArgumentParser(prog="bylaw", description=DESCRIPTION)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_lint(commands)
    _add_fmt(commands)
    _add_test(commands)
    _add_decide(commands)
    _add_replay(commands)
    _add_bundle(commands)
    _add_serve(commands)
    _add_dev(commands)
    _add_migrate(commands)
    _add_seed(commands)
    _add_callers(commands)
    _add_audit(commands)
    _add_admin(commands)
    version = commands.add_parser("version", help="print the version")
    _add_json(version)
    return top


Commands = argparse._SubParsersAction  # argparse has no public name for what `add_subparsers` returns


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON for machines")


def _add_lint(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("lint", help="check a policy: every error, warning and note")
    command.add_argument("path", metavar="PATH", help="a directory of *.bylaw, or one file")
    command.add_argument("--strict", action="store_true", help="warnings fail too")
    command.add_argument("--concise", action="store_true", help="one line a finding, for editors")
    command.add_argument("--notes", action="store_true", help="show notes too: every way over the wall")
    _add_json(command)


def _add_fmt(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("fmt", help="lay a policy out in the one way")
    command.add_argument("path", metavar="PATH")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="change nothing; exit 1 where something would change")
    how.add_argument("--diff", action="store_true", help="change nothing; show what would change")
    _add_json(command)


def _add_test(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("test", help="run the tests of a policy")
    command.add_argument("path", metavar="PATH")
    command.add_argument("--coverage", action="store_true", help="name the rules and conditions that no test reached")
    command.add_argument("--junit", metavar="F", help="write a JUnit report")
    _add_json(command)


def _add_decide(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "decide",
        help="ask one question of a policy and a facts file",
        usage=(
            "bylaw decide --policy PATH --facts FILE [--tenant T] [--context JSON] [--at TIME] [--explain] [--json]\n"
            "                    (SUBJECT ACTION RESOURCE | --request FILE)"
        ),
    )
    command.add_argument("--policy", required=True, metavar="PATH")
    command.add_argument("--facts", required=True, metavar="FILE")
    command.add_argument("--tenant", metavar="T", help="the active tenant")
    command.add_argument("--context", metavar="JSON", help="what the request says of itself")
    command.add_argument(
        "--request",
        metavar="FILE",
        help="a body of POST /check in place of the three words; `-` reads it from standard input",
    )
    command.add_argument("--at", metavar="TIME", help="the instant, RFC 3339")
    command.add_argument("--explain", action="store_true", help="show the whole reasoning")
    command.add_argument("words", nargs="*", metavar="SUBJECT ACTION RESOURCE", help="like: user:ann read task:t1")
    _add_json(command)


def _add_bundle(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("bundle", help="make a policy a version, sign it, verify it")
    steps = command.add_subparsers(dest="step", metavar="build|sign|verify|keygen", required=True)
    build = steps.add_parser("build", help="write bylaw.lock: the files of a policy and their digests")
    build.add_argument("--version", required=True, metavar="N", help="a whole number, higher than the one before")
    build.add_argument("--rollback", action="store_true", help="it may take the place of a higher version")
    sign = steps.add_parser("sign", help="add a signature to bylaw.lock")
    sign.add_argument("--key", required=True, metavar="FILE", help="the private key, as `keygen` made it")
    verify = steps.add_parser("verify", help="say whether the files are those of bylaw.lock, and who vouches for them")
    verify.add_argument("--key", metavar="PUBLIC", help="what BYLAW_POLICY_KEY would be where it is to be loaded")
    for step in (build, sign, verify):
        step.add_argument("directory", metavar="DIR", help="directory of *.bylaw")
        _add_json(step)
    keygen = steps.add_parser("keygen", help="make a key pair, and print the public key")
    keygen.add_argument("file", metavar="FILE", help="a new file, for the private key")
    _add_json(keygen)


def _add_replay(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "replay", help="verify a decision log, and ask its decisions again of a policy and a facts file"
    )
    command.add_argument("logs", nargs="+", metavar="LOG", help="a file, or a directory of *.jsonl")
    command.add_argument("--policy", metavar="PATH", help="without it only the chains are verified")
    command.add_argument("--facts", metavar="FILE")
    _add_json(command)


def _add_serve(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("serve", help="serve decisions on the facts of a store")
    _add_database(command)
    _add_service(command)


def _add_dev(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "dev",
        help="serve decisions and administration, to try things out, on an SQLite store that is made and filled",
    )
    facts = command.add_mutually_exclusive_group()
    facts.add_argument("--facts", metavar="FILE", help="decide on the facts of this file, without a store")
    _add_database(facts)
    command.add_argument(
        "--admin", metavar="HOST:PORT", help="where administration listens, or `none` (127.0.0.1:8190)"
    )
    _add_service(command)


def _add_database(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--database-url", metavar="URL", help="the store (BYLAW_DATABASE_URL, sqlite+aiosqlite:///bylaw.db)"
    )


def _add_service(command: argparse.ArgumentParser) -> None:
    from bylaw.commands.serve import FLAGS

    for name, value, meaning in FLAGS:
        command.add_argument(f"--{name}", metavar=value, help=meaning)
    command.add_argument("--workers", metavar="N", help="processes on one port (1)")
    _add_json(command)


def _add_migrate(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("migrate", help="make the tables of a database, or change them to this version's")
    steps = command.add_subparsers(dest="step", metavar="up|down|status", required=True)
    up = steps.add_parser("up", help="do all that is pending")
    up.add_argument(
        "--restored",
        action="store_true",
        help="the database came from a backup: name its history anew, so that revisions of what was lost count no more",
    )
    down = steps.add_parser("down", help="take the last step back")
    down.add_argument("--lose-facts", action="store_true", help="even if facts are lost by it")
    status = steps.add_parser("status", help="say what was done, and what is pending")
    for step in (up, down, status):
        step.add_argument(
            "--database-url",
            metavar="URL",
            help="(BYLAW_MIGRATE_URL, BYLAW_DATABASE_URL, sqlite+aiosqlite:///bylaw.db)",
        )
        _add_json(step)


def _add_seed(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("seed", help="put a facts file into the store; nothing that is there is removed")
    command.add_argument("file", metavar="FILE", help="a facts file")
    command.add_argument("--policies", metavar="DIR", help="directory of *.bylaw (BYLAW_POLICIES, policies)")
    _add_database(command)
    _add_json(command)


def _add_callers(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("callers", help="who may ask the decision service, by a key or by a certificate")
    steps = command.add_subparsers(dest="step", metavar="add|list|remove", required=True)
    add = steps.add_parser("add", help="let somebody ask; a key is printed, this once")
    add.add_argument("name", metavar="NAME", help="as lists and logs call them")
    known = add.add_mutually_exclusive_group(required=True)
    known.add_argument("--key", action="store_true", help="make a key for them")
    known.add_argument(
        "--certificate", metavar="NAME", help="a name in their certificate, like uri:spiffe://a.org/shop"
    )
    where = add.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--tenant", action="append", metavar="T", help="a tenant in which they may ask; as often as needed"
    )
    where.add_argument("--all-tenants", action="store_true", help="they may ask in all tenants, later ones included")
    add.add_argument(
        "--scope", action="append", metavar="S", help="check, search, explain, claims (check); as often as needed"
    )
    add.add_argument("--rate", metavar="R", help="limits of their own: 100/1s,5000/1m")
    add.add_argument("--expires", metavar="TIME", help="until when, RFC 3339")
    listing = steps.add_parser("list", help="show who may ask")
    remove = steps.add_parser("remove", help="let somebody ask no more")
    remove.add_argument("name", metavar="NAME")
    for step in (add, listing, remove):
        _add_database(step)
        _add_json(step)


def _add_admin(commands: Commands[argparse.ArgumentParser]) -> None:
    from bylaw.commands.admin import FLAGS

    command = commands.add_parser("admin", help="serve administration: tenants, people, roles; or make its first key")
    command.add_argument("--admin", metavar="HOST:PORT", help="where to listen, or unix:/path (127.0.0.1:8190)")
    for name, value, meaning in FLAGS:
        command.add_argument(f"--{name}", metavar=value, help=meaning)
    steps = command.add_subparsers(dest="step", metavar="[bootstrap|VERB]")
    bootstrap = steps.add_parser("bootstrap", help="make a key that may do everything, and print it, this once")
    bootstrap.add_argument("--name", default="bootstrap", metavar="NAME", help="as lists call it (bootstrap)")
    retain = steps.add_parser("retain", help="remove from the store what is kept no longer; for a cron entry")
    retain.add_argument("--dry-run", action="store_true", help="count what is due, and change nothing")
    renew = steps.add_parser("reencrypt", help="encrypt anew what is stored under an old key")
    for each in (command, bootstrap, retain, renew):
        _add_database(each)
        _add_json(each)
    _add_verbs(steps)


def _add_verbs(steps: Commands[argparse.ArgumentParser]) -> None:
    tenant = steps.add_parser("create-tenant", help="make a tenant")
    user = steps.add_parser("add-user", help="make a user")
    for each in (tenant, user):
        each.add_argument("id", metavar="ID", help="chosen once and for ever")
        each.add_argument("--attributes", metavar="JSON", help='like {"plan": "pro"}')
    join = steps.add_parser("add-member", help="make somebody a member of a tenant")
    join.add_argument("--status", choices=("active", "guest", "suspended"), help="(active)")
    leave = steps.add_parser("remove-member", help="end a membership, with all that hangs on it")
    invite = steps.add_parser("invite", help="invite somebody into a tenant, and print the token, this once")
    invite.add_argument("--email", metavar="ADDRESS", help="to tell invitations apart; kept encrypted")
    invite.add_argument("--status", choices=("active", "guest"), help="as what (active)")
    invite.add_argument("--role", nargs=2, action="append", metavar=("ROLE", "ON"), help="with it; as often as needed")
    suspend = steps.add_parser("suspend", help="suspend somebody everywhere, in one tenant, or a tenant")
    resume = steps.add_parser("resume", help="take that back")
    resume.add_argument("--status", choices=("active", "guest"), help="as what, in a tenant (active)")
    grant = steps.add_parser("grant", help="give a role on something")
    revoke = steps.add_parser("revoke", help="take a role on something away")
    show = steps.add_parser("show", help="show somebody in a tenant: membership, groups, roles")
    can = steps.add_parser("what-can", help="show what somebody may do with something, and why")
    members = steps.add_parser("members", help="list the members of a tenant")
    members.add_argument("--status", choices=("active", "guest", "suspended"), help="only these")
    tenants = steps.add_parser("tenants", help="list tenants")
    tenants.add_argument("--status", choices=("active", "suspended", "deleted"), help="only these")
    tenants.add_argument("--prefix", metavar="TEXT", help="only those whose id begins so")
    holders = steps.add_parser("holders", help="list who holds what on something")
    tree = steps.add_parser("tree", help="show what lies in what: the resources of a tenant, or its groups")
    tree.add_argument("thing", metavar="THING", nargs="?", help="like: project:p1, or group:staff (all of the tenant)")
    tree.add_argument("--groups", action="store_true", help="groups")
    tree.add_argument("--depth", metavar="N", help="so many levels (3)")
    for each in (suspend, resume):
        each.add_argument("subject", metavar="WHO", help="like: user:ann, service:mail, tenant:acme")
    for each in (join, leave, grant, revoke, show, can):
        each.add_argument("subject", metavar="SUBJECT", help="like: user:ann")
    for each in (grant, revoke):
        each.add_argument("role", metavar="ROLE", help="like: editor")
    for each in (grant, revoke, can, holders):
        each.add_argument("on", metavar="ON", help="like: project:p1" + ("" if each is can else "; or system"))
    for each in (join, grant, invite):
        each.add_argument("--expires", metavar="TIME", help="until when, RFC 3339")
    writes = (tenant, user, join, leave, invite, suspend, resume, grant, revoke)
    for each in writes:
        each.add_argument("--wait", action="store_true", help="until no process decides without it any more")
    reads = (show, can, members, tenants, holders, tree)
    for each in (join, leave, invite, suspend, resume, grant, revoke, show, can, members, holders, tree):
        each.add_argument("--tenant", metavar="T", help="in which tenant")
    for each in (*writes, *reads, *_add_policies(steps)):
        each.add_argument("--url", metavar="URL", help="the service (BYLAW_ADMIN, 127.0.0.1:8190)")
        each.add_argument("--key-file", metavar="FILE", help="a file that holds the key (BYLAW_ADMIN_KEY)")
        _add_json(each)


def _add_policies(steps: Commands[argparse.ArgumentParser]) -> Sequence[argparse.ArgumentParser]:
    publish = steps.add_parser("publish", help="upload a policy, and let it decide in every process")
    publish.add_argument("directory", metavar="DIR", nargs="?", help="with *.bylaw, and bylaw.lock if it is a bundle")
    publish.add_argument("--note", metavar="TEXT", help="what it is, for people")
    back = steps.add_parser("rollback", help="let the policy decide again that did before")
    withdraw = steps.add_parser("withdraw", help="publish none: each process decides by its directory")
    for each in (publish, back):
        each.add_argument("--id", metavar="ID", help="one that was uploaded before")
    for each in (publish, back, withdraw):
        each.add_argument("--wait", action="store_true", help="until no process decides without it any more")
    return publish, back, withdraw, steps.add_parser("policies", help="list policies that were uploaded")


def _add_audit(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("audit", help="verify the audit logs of a store or of an export, or export them")
    steps = command.add_subparsers(dest="step", metavar="verify|export", required=True)
    verify = steps.add_parser("verify", help="compute the chains of hashes again; exit 1 where one breaks")
    verify.add_argument("file", metavar="FILE", nargs="?", help="an export; without it the store is verified")
    verify.add_argument(
        "--tenant", action="append", metavar="T", help="a tenant's log alone; as often as needed (all logs)"
    )
    verify.add_argument(
        "--head", action="append", metavar="HEAD", help="STREAM=N:HASH, as `export` printed it: what FILE must reach"
    )
    export = steps.add_parser("export", help="print a log, a row a line, with all that it takes to verify it elsewhere")
    whose = export.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", metavar="T")
    whose.add_argument("--platform", action="store_true", help="the logs of what all tenants share, and of policies")
    export.add_argument("--output", metavar="FILE", help="a new file (standard output)")
    for step in (verify, export):
        _add_database(step)
        _add_json(step)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. A person never sees a traceback."""
    args = parser().parse_args(arguments)
    try:
        return _run(args)
    except BylawError as error:
        from bylaw.output import fail  # only needed here

        return fail(error, as_json=args.json)
    except BrokenPipeError:
        sys.stderr.close()
        return 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"bylaw: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    from importlib import import_module  # each command is imported when it is called

    code: int = import_module(f"bylaw.commands.{args.command}").run(args)
    return code
