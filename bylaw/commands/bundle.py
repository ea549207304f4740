"""`bylaw bundle build|sign|verify|keygen`: a directory of policy files made a version, signed, and held to both.

What is built here is judged by the same code that judges it where it is loaded. A lock is replaced whole, by way of a
file whose name begins with a point, which nobody reads as part of a policy.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bylaw.output import GREEN, RED, count, paint, print_json
from engine.bundle import LOCK_NAME, MAX_VERSION, Lock, build, check_files, parse_lock, show_key, write_lock
from engine.errors import BylawError, PolicyError
from engine.loading import read_sources
from engine.policy import Policy


def run(args: argparse.Namespace) -> int:
    """Do one of the four; `verify` exits 1 where the bundle is not good, all of them 2 where they could not run."""
    code: int = {"build": _build, "sign": _sign, "verify": _verify, "keygen": _keygen}[args.step](args)
    return code


def _build(args: argparse.Namespace) -> int:
    """Write the lock of a policy without errors."""
    folder = _folder(args.directory)
    sources = read_sources(folder)
    Policy.of(sources)  # it has no errors, or raises them
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lock = build(sources, version=_version(args.version), rollback=args.rollback, created=created)
    _write(folder / LOCK_NAME, write_lock(lock))
    if args.json:
        print_json(_as_json(lock))
    else:
        print(f"{folder / LOCK_NAME}: {_summary(lock)}, not signed, policy {lock.policy}")
    return 0


def _sign(args: argparse.Namespace) -> int:
    """Add a signature to a lock that is true of the files beside it."""
    from store.signatures import read_private_key, sign

    folder = _folder(args.directory)
    lock = _lock(folder)
    check_files(lock, read_sources(folder))
    signed = sign(lock, read_private_key(Path(args.key)))
    _write(folder / LOCK_NAME, write_lock(signed))
    if args.json:
        print_json(_as_json(signed))
    else:
        print(f"{folder / LOCK_NAME}: {_summary(lock)}, signed by {show_key(signed.signatures[-1].key)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    """Judge a bundle as it would be where it is loaded; without a key, signatures are not judged."""
    from store.signatures import parse_public_keys, verify

    folder = _folder(args.directory)
    keys = None if args.key is None else parse_public_keys(args.key, place="--key")
    try:
        lock = _lock(folder)
        key = None if keys is None else verify(lock, keys)
        check_files(lock, read_sources(folder))
    except PolicyError as error:
        if error.code == "unreadable":
            raise
        return _failed(error, args)
    if args.json:
        print_json(_as_json(lock) | {"verified": True, "key": key and show_key(key)})
    else:
        by = f"signed by {show_key(key)}" if key else "signatures not judged: no `--key` is named"
        print(f"{paint('good', GREEN)}: {_summary(lock)}, {by}")
    return 0


def _failed(error: PolicyError, args: argparse.Namespace) -> int:
    if args.json:
        print_json({"verified": False, "error": error.code, "message": error.message})
    else:
        print(f"{paint('not good', RED)}: {error.message}")
    return 1


def _keygen(args: argparse.Namespace) -> int:
    """Make a key pair; what is printed is the public one."""
    from store.signatures import make_key

    public = show_key(make_key(Path(args.file)))
    print_json({"public": public}) if args.json else print(public)
    return 0


# --- parts ----------------------------------------------------------------------------------------------


def _folder(written: str) -> Path:
    folder = Path(written)
    if not folder.is_dir():
        raise PolicyError("unreadable", f"{folder}: no such directory: a bundle is a directory of *.bylaw")
    return folder


def _version(written: str) -> int:
    is_number = written.isascii() and written.isdigit() and len(written) <= len(str(MAX_VERSION))
    if not is_number or not 1 <= int(written) <= MAX_VERSION:
        raise BylawError("bad_version", "--version: expected a whole number from 1 on, higher than the one before")
    return int(written)


def _lock(folder: Path) -> Lock:
    from sidecar.readings import read_lock

    raw = read_lock(folder)
    if raw is None:
        raise PolicyError("no_lock", f"{folder} has no {LOCK_NAME}: `bylaw bundle build` makes it")
    return parse_lock(raw)


def _summary(lock: Lock) -> str:
    return f"version {lock.version}{' (rollback)' if lock.rollback else ''}, {count(len(lock.files), 'file')}"


def _as_json(lock: Lock) -> dict[str, Any]:
    return {
        "version": lock.version,
        "rollback": lock.rollback,
        "created": lock.created,
        "policy": lock.policy,
        "files": dict(lock.files),
        "signatures": [show_key(each.key) for each in lock.signatures],
    }


def _write(path: Path, content: bytes) -> None:
    """Replace a file whole: a crash leaves the old one or the new one. Everybody may read it: it is no secret."""
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    Path(file.name).replace(path)
