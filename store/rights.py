"""What a service looks at before it starts: that its login is held by the wall, and that the tables are of its version.

Row-level security holds nobody who is a superuser, has BYPASSRLS, or owns the tables (who may drop it), and TRUNCATE
goes past it. A service with such a login works, and one mistake in a query then shows one tenant's facts to another: so
it refuses to start. What a login may become by SET ROLE counts as what it is.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.database import Database
from store.errors import UnfitError
from store.migrating import head
from store.tables import OWNED, meta

SIDECAR: Final = "bylaw_sidecar"
ADMIN: Final = "bylaw_admin"

#: One row. Reads catalogs only, which everybody may. `session_user` is who logged in: what it may become by SET ROLE
#: counts. `current_user` is as whom statements run, since a login may have a role set for it.
_RIGHTS: Final = text("""
    WITH ours AS (
        SELECT to_regclass(quote_ident(name)) AS oid FROM unnest(CAST(:tables AS text[])) AS name
    ),
    become AS (
        SELECT oid, rolname, rolsuper, rolbypassrls FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')
    )
    SELECT
        quote_ident(session_user) AS login,
        (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) AS is_superuser,
        (SELECT quote_ident(rolname) FROM become WHERE rolsuper OR rolbypassrls
         ORDER BY rolname <> session_user LIMIT 1) AS unbound,
        (SELECT quote_ident(b.rolname) FROM ours JOIN pg_class c ON c.oid = ours.oid
         JOIN become b ON b.oid = c.relowner
         ORDER BY b.rolname <> session_user LIMIT 1) AS owner,
        (SELECT quote_ident(c.relname) || ' FROM ' || coalesce(quote_ident(b.rolname), 'PUBLIC')
         FROM ours JOIN pg_class c ON c.oid = ours.oid CROSS JOIN LATERAL aclexplode(c.relacl) a
         LEFT JOIN become b ON b.oid = a.grantee
         WHERE a.privilege_type = 'TRUNCATE' AND (a.grantee = 0 OR b.oid IS NOT NULL)
         ORDER BY c.relname LIMIT 1) AS truncates,
        (SELECT count(*) FROM pg_roles WHERE rolname = ANY(CAST(:roles AS text[]))) > 0 AS has_roles,
        EXISTS (SELECT FROM become WHERE rolname = ANY(CAST(:roles AS text[]))) AS is_member,
        EXISTS (SELECT FROM pg_roles
                WHERE rolname = ANY(CAST(:roles AS text[])) AND pg_has_role(current_user, oid, 'USAGE')) AS has_rights,
        (SELECT quote_ident(c.relname) FROM ours JOIN pg_class c ON c.oid = ours.oid
         WHERE c.relname = ANY(CAST(:owned AS text[])) AND NOT c.relrowsecurity ORDER BY c.relname LIMIT 1) AS open,
        EXISTS (SELECT FROM ours WHERE oid IS NULL) AS lacks_tables
""")


async def check_rights(database: Database, role: str) -> None:
    """Refuse a login that the wall does not hold, and tables of another version. On SQLite only the latter.

    Args:
        role: whose rights the service needs, `bylaw_sidecar` or `bylaw_admin`. Who has the latter may do what the
            former may.

    Raises:
        UnfitError: it must not start like this; the sentence has the SQL that cures it.
        UnavailableError: the database cannot be reached.
    """
    async with database.reading() as connection:
        if not database.is_sqlite:
            _judge(await _rights(connection, role), role, database.shown)
        current = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    if current != head():
        raise UnfitError("no_schema", f"{database.shown}: {_distance(current)}")


async def _rights(connection: AsyncConnection, role: str) -> Row[Any]:
    found = await connection.execute(
        _RIGHTS,
        {
            "tables": sorted([*meta.tables, "alembic_version"]),
            "owned": [table.name for table in OWNED],
            "roles": [SIDECAR, ADMIN] if role == SIDECAR else [role],
        },
    )
    return found.one()


def _judge(rights: Row[Any], role: str, where: str) -> None:
    if (danger := _danger(rights, role)) is not None:
        raise UnfitError("unsafe_login", f"{where}: {danger}")
    if rights.has_roles and (lack := _lack(rights, role)) is not None:
        raise UnfitError("no_rights", f"{where}: {lack}")
    if rights.lacks_tables or not rights.has_roles:
        raise UnfitError("no_schema", f"{where}: the tables are not there, or old: run `bylaw migrate up`")


def _danger(rights: Row[Any], role: str) -> str | None:
    """Say by what the wall would not hold this login, the gravest first, with its cure."""
    login = rights.login
    own = f"give the service a login of its own: CREATE ROLE {role}_login LOGIN; GRANT {role} TO {role}_login"
    if rights.is_superuser:
        return f"{login} is a superuser, whom no wall between tenants holds; {own}"
    if rights.unbound == login:
        return f"{login} has BYPASSRLS, so no wall between tenants holds it: ALTER ROLE {login} NOBYPASSRLS"
    if rights.unbound is not None:
        return f"{login} may become {rights.unbound}, which no wall holds: REVOKE {rights.unbound} FROM {login}"
    if rights.owner == login:
        return f"{login} owns the tables, and may take the wall between tenants down; {own}"
    if rights.owner is not None:
        return f"{login} may become {rights.owner}, which owns the tables: REVOKE {rights.owner} FROM {login}"
    if rights.truncates is not None:
        return f"{login} may empty a table past the wall: REVOKE TRUNCATE ON {rights.truncates}"
    if rights.open is not None:
        return f"{rights.open} is open to all tenants: ALTER TABLE {rights.open} ENABLE ROW LEVEL SECURITY"
    return None


def _lack(rights: Row[Any], role: str) -> str | None:
    """Say which rights of the service this login lacks, with the cure."""
    login = rights.login
    if not rights.is_member:
        return f"{login} has not the rights of the service: GRANT {role} TO {login}"
    if not rights.has_rights:
        again = (
            f"REVOKE {role} FROM {login}; GRANT {role} TO {login}"  # since PostgreSQL 16 each grant says it for itself
        )
        return f"{login} has {role} but does not inherit its rights: ALTER ROLE {login} INHERIT; {again}"
    return None


def _distance(current: str | None) -> str:
    if current is None:
        return "the tables are not there: run `bylaw migrate up`"
    if current > head():
        return f"the tables are of a newer version of Bylaw ({current}): start that one"
    return f"the tables are old ({current}): run `bylaw migrate up`"
