"""The statements that read facts and changes, for both databases; what differs between them is in `_DIALECTS`.

Each is one statement, so that it is one snapshot, and costs one trip. Their rows have one shape: a kind, then texts.
Lists of keys go in as JSON.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Final

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.tokens import Line, Token

#: The channel on which PostgreSQL tells that something changed.
CHANNEL: Final = "bylaw_changes"
#: A principal or group that holds more than so many roles in a tenant is looked up place by place.
MAX_GRANTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one database says otherwise than the other.

    Args:
        line: columns beside the store's uuid that tell one history from another.
        replica: whether this is a copy that follows another server.
        own: the tenant of a load, as rows are compared with it: written as the wall has it, or its price is paid again
            for every table.
        is_own: whether that is the tenant that the load names.
    """

    line: str
    replica: str
    own: str
    is_own: str

    def table(self, parameter: str, *columns: str) -> str:
        """Make a table of a JSON list of lists, one column each; of a list of texts where there is one column."""
        raise NotImplementedError


class _Postgres(Dialect):
    def table(self, parameter: str, *columns: str) -> str:
        if len(columns) == 1:
            return f"SELECT e AS {columns[0]} FROM json_array_elements_text(CAST(:{parameter} AS json)) AS e"
        picked = ", ".join(f"e->>{index} AS {name}" for index, name in enumerate(columns))
        return f"SELECT {picked} FROM json_array_elements(CAST(:{parameter} AS json)) AS e"


class _Sqlite(Dialect):
    def table(self, parameter: str, *columns: str) -> str:
        if len(columns) == 1:
            return f"SELECT value AS {columns[0]} FROM json_each(:{parameter})"
        picked = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, name in enumerate(columns))
        return f"SELECT {picked} FROM json_each(:{parameter})"


_POSTGRES = _Postgres(
    # The timeline from the name of the log file, since the control file lags behind a promotion.
    line=(
        "(SELECT system_identifier FROM pg_control_system())::text || ':' || "
        "CASE WHEN pg_is_in_recovery() THEN '' ELSE substring(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END"
    ),
    replica="CASE WHEN pg_is_in_recovery() THEN 'yes' ELSE 'no' END",
    own="current_setting('bylaw.tenant', true)",
    is_own="coalesce(current_setting('bylaw.tenant', true), '') = CAST(:tenant AS text)",
)
_SQLITE = _Sqlite(line="''", replica="'no'", own="CAST(:tenant AS text)", is_own="TRUE")


def dialect_of(connection: AsyncConnection) -> Dialect:
    return _SQLITE if connection.dialect.name == "sqlite" else _POSTGRES


def _nulls(count: int) -> str:
    return ", ".join(["NULL"] * count)


# --- the line of history ------------------------------------------------------------------------------


def line_of(store: str, said: str) -> Line:
    """Make a line of what the database says of itself: `CLUSTER:TIMELINE` in hex, or nothing."""
    cluster, _, timeline = said.partition(":")
    return Line(store, hashlib.sha256(cluster.encode()).hexdigest()[:8] + (timeline or "0" * 8).lower())


async def read_line(connection: AsyncConnection) -> Line:
    """Read which history this is."""
    dialect = dialect_of(connection)
    found = await connection.execute(text(f"SELECT uuid, {dialect.line} AS said FROM store ORDER BY seq DESC LIMIT 1"))
    row = found.one()
    return line_of(row.uuid, row.said)


async def read_token(connection: AsyncConnection) -> Token:
    """Name the state of what all tenants share."""
    found = await connection.execute(text("SELECT stream, n FROM revisions WHERE stream IN ('g', 'p')"))
    at = {row.stream: row.n for row in found}
    return Token(await read_line(connection), at["p"], at["g"])


async def notify(connection: AsyncConnection, streams: list[str]) -> None:
    """Hint, at the commit, that streams moved. SQLite has no such thing: its readers see that the file changed."""
    if connection.dialect.name != "sqlite":
        await connection.execute(
            text("SELECT pg_notify(:channel, :streams)"), {"channel": CHANNEL, "streams": json.dumps(streams)[:7000]}
        )


# --- the poll -----------------------------------------------------------------------------------------


@cache
def poll_statement(dialect: Dialect) -> TextClause:
    """Read how far streams are, where that is not what is known, and what changed since. `g` and `p` are always told.

    Parameters:
        known: JSON list of [stream, n, head], of which 8 characters tell one history from another; n below 0: the last
            `history` changes are wanted.
        me: id of the process, for receipts that it has not given.
    """
    return text(f"""
        WITH asked AS MATERIALIZED ({dialect.table("known", "stream", "n", "head")}),
        moved(stream, n, head, since) AS MATERIALIZED (
            SELECT r.stream, r.n, r.head,
                   CASE WHEN CAST(a.n AS bigint) < 0 THEN r.n - CAST(:history AS bigint) ELSE CAST(a.n AS bigint) END
            FROM asked a CROSS JOIN revisions r
            WHERE r.stream = a.stream
              AND (r.n <> CAST(a.n AS bigint) OR substr(r.head, 1, 8) <> a.head OR a.stream IN ('g', 'p'))
        )
        SELECT 'store' AS kind, s.uuid AS a, CAST(s.seq AS text) AS b, {dialect.line} AS c, {dialect.replica} AS d,
               NULL AS e
        FROM store s
        UNION ALL
        SELECT 'at', m.stream, CAST(m.n AS text), m.head, NULL, NULL FROM moved m
        UNION ALL
        SELECT 'change', c.stream, CAST(c.n AS text), c.before, c.head, c.keys
        FROM moved m CROSS JOIN changes c WHERE c.stream = m.stream AND c.n > m.since
        UNION ALL
        SELECT 'me', s.id, NULL, NULL, NULL, NULL FROM sidecars s WHERE s.id = CAST(:me AS text) AND s.seen <> ''
        UNION ALL
        SELECT 'settle', s.id, s.streams, NULL, NULL, NULL
        FROM settle s
        WHERE NOT EXISTS (
            SELECT 1 FROM settle_acks k WHERE k.settle_id = s.id AND k.sidecar_id = CAST(:me AS text)
        )
    """)


# --- loading ------------------------------------------------------------------------------------------

_COLUMNS = 12


@cache
def load_statement(dialect: Dialect) -> TextClause:
    """Read the facts of some keys, with all that lies above them: outer groups, parents, homes of links.

    Every join goes from what is asked to what is stored, and says so by `CROSS JOIN`. Left to itself a database goes
    through a tenant's million assignments to find the few that are asked for. SQLite keeps the order that is written,
    PostgreSQL does by the settings of the connection (`database`). What is asked is `MATERIALIZED`: row-level security
    lets no expression but a plain column come to an index, since any other might tell what it saw.

    Nothing comes where the tenant that is named is not that of the transaction.

    Parameters:
        tenant: whose facts; "" none.
        principals, resources: JSON lists of [type, id]. groups: names; `anyone` is one. tenants: ids.
        placed: JSON list of [type, id, place type, place id]: what one who holds too much holds there.
        profile: `yes` if the tenant's attributes and own roles are wanted.
        callers: `yes` if all who may ask for decisions are wanted.
        bound: more grants than these are not read, but counted as many.
    """
    own = dialect.own

    def t(parameter: str, *columns: str) -> str:
        return f"{dialect.table(parameter, *columns)} WHERE {dialect.is_own}"

    def row(kind: str, *columns: str) -> str:
        named = list(columns) + ["NULL"] * (_COLUMNS - len(columns))
        return f"SELECT '{kind}' AS kind, " + ", ".join(f"{c} AS {chr(97 + i)}" for i, c in enumerate(named))

    return text(f"""
        WITH RECURSIVE
        asked_principals AS MATERIALIZED ({t("principals", "type", "id")}),
        asked_groups AS MATERIALIZED ({t("groups", "id")}),
        asked_resources AS MATERIALIZED ({t("resources", "type", "id")}),
        asked_placed AS MATERIALIZED ({t("placed", "kind", "id", "place_type", "place_id")}),
        asked_tenants AS MATERIALIZED ({t("tenants", "id")}),
        own_members AS MATERIALIZED (
            SELECT m.type, m.id, m.group_id, m.starts, m.expires FROM asked_principals w CROSS JOIN group_members m
            WHERE m.tenant_id = {own} AND m.type = w.type AND m.id = w.id
        ),
        shared_members AS MATERIALIZED (
            SELECT m.type, m.id, m.group_id, m.starts, m.expires FROM asked_principals w CROSS JOIN platform_members m
            WHERE m.type = w.type AND m.id = w.id
        ),
        own_groups(id) AS (
            SELECT id FROM asked_groups
            UNION
            SELECT group_id FROM own_members
            UNION
            SELECT n.outer_id FROM own_groups g CROSS JOIN group_nestings n
            WHERE n.tenant_id = {own} AND n.inner_id = g.id
        ),
        shared_groups(id) AS (
            SELECT id FROM asked_groups
            UNION
            SELECT group_id FROM shared_members
            UNION
            SELECT n.outer_id FROM shared_groups g CROSS JOIN platform_nestings n WHERE n.inner_id = g.id
        ),
        found_groups(id) AS (SELECT id FROM own_groups UNION SELECT id FROM shared_groups),
        chain(type, id, parent_type, parent_id, attributes, deleted, depth) AS (
            SELECT r.type, r.id, r.parent_type, r.parent_id, r.attributes, r.deleted, 1
            FROM asked_resources w CROSS JOIN resources r
            WHERE r.tenant_id = {own} AND r.type = w.type AND r.id = w.id
            UNION
            SELECT r.type, r.id, r.parent_type, r.parent_id, r.attributes, r.deleted, c.depth + 1
            FROM chain c
            CROSS JOIN resources r
            WHERE r.tenant_id = {own} AND r.type = c.parent_type AND r.id = c.parent_id AND c.depth < 32
        ),
        every_holder(kind, id) AS (
            SELECT type, id FROM asked_principals
            UNION ALL
            SELECT CASE WHEN id = 'anyone' THEN 'anyone' ELSE 'group' END, id FROM found_groups
        ),
        holders(kind, id, holds_many) AS MATERIALIZED (
            SELECT h.kind, h.id, EXISTS (
                SELECT 1 FROM assignments a
                WHERE a.tenant_id = {own} AND a.subject_type = h.kind AND a.subject_id = h.id
                LIMIT 1 OFFSET CAST(:bound AS bigint)
            )
            FROM every_holder h
        ),
        found_tenants(id) AS (
            SELECT id FROM asked_tenants
            UNION
            SELECT l.home_id FROM asked_principals w CROSS JOIN links l WHERE l.type = w.type AND l.id = w.id
        )
        {row("store", "s.uuid", "CAST(s.seq AS text)", dialect.line, dialect.replica)} FROM store s
        UNION ALL
        {row("at", "r.stream", "CAST(r.n AS text)", "r.head")} FROM revisions r
        WHERE r.stream IN ('g', 'p', 't:' || CAST(:tenant AS text))
        UNION ALL
        {row("tenant", "x.id", "x.status")} FROM found_tenants w CROSS JOIN tenants x WHERE x.id = w.id
        UNION ALL
        {row("profile", "x.attributes")} FROM tenant_profiles x
        WHERE x.tenant_id = {own} AND CAST(:profile AS text) = 'yes' AND {dialect.is_own}
        UNION ALL
        {row("custom", "x.name", "x.place_type", "x.can")} FROM custom_roles x
        WHERE x.tenant_id = {own} AND NOT x.deleted AND CAST(:profile AS text) = 'yes' AND {dialect.is_own}
        UNION ALL
        {row("caller", "x.id", "x.name", "x.tenants", "x.scopes", "x.rate", "x.expires")} FROM callers x
        WHERE CAST(:callers AS text) = 'yes'
        UNION ALL
        {row("principal", "x.type", "x.id", "x.status", "x.attributes")}
        FROM asked_principals w CROSS JOIN principals x WHERE x.type = w.type AND x.id = w.id
        UNION ALL
        {row("horizon", "x.type", "x.id", "x.valid_after")}
        FROM asked_principals w CROSS JOIN token_horizons x WHERE x.type = w.type AND x.id = w.id
        UNION ALL
        {row("blocked", "x.type", "x.id", "x.jti")}
        FROM asked_principals w CROSS JOIN blocked_tokens x WHERE x.type = w.type AND x.id = w.id
        UNION ALL
        {row("system", "x.type", "x.id", "x.role", "x.starts", "x.expires")}
        FROM asked_principals w CROSS JOIN system_assignments x WHERE x.type = w.type AND x.id = w.id
        UNION ALL
        {
        row(
            "link",
            "x.type",
            "x.id",
            "x.home_id",
            "x.tenant_id",
            "x.place_type",
            "x.place_id",
            "x.role",
            "x.starts",
            "x.expires",
            "x.home_status",
            "x.home_starts",
            "x.home_expires",
        )
    }
        FROM asked_principals w CROSS JOIN links x WHERE x.type = w.type AND x.id = w.id
        UNION ALL
        {row("in platform", "x.type", "x.id", "x.group_id", "x.starts", "x.expires")} FROM shared_members x
        UNION ALL
        {row("membership", "x.type", "x.id", "x.status", "x.starts", "x.expires")}
        FROM asked_principals w CROSS JOIN memberships x WHERE x.tenant_id = {own} AND x.type = w.type AND x.id = w.id
        UNION ALL
        {row("in group", "x.type", "x.id", "x.group_id", "x.starts", "x.expires")} FROM own_members x
        UNION ALL
        {row("found group", "g.id")} FROM found_groups g
        UNION ALL
        {row("group", "x.id", "x.attributes")} FROM found_groups g CROSS JOIN groups x
        WHERE x.tenant_id = {own} AND x.id = g.id AND NOT x.deleted
        UNION ALL
        {row("nesting", "x.inner_id", "x.outer_id")}
        FROM found_groups g CROSS JOIN group_nestings x WHERE x.tenant_id = {own} AND x.inner_id = g.id
        UNION ALL
        {row("platform group", "x.id", "x.attributes")} FROM found_groups g CROSS JOIN platform_groups x
        WHERE x.id = g.id AND NOT x.deleted
        UNION ALL
        {row("platform nesting", "x.inner_id", "x.outer_id")}
        FROM found_groups g CROSS JOIN platform_nestings x WHERE x.inner_id = g.id
        UNION ALL
        {row("many", "h.kind", "h.id")} FROM holders h WHERE h.holds_many
        UNION ALL
        {
        row("grant", "x.subject_type", "x.subject_id", "x.role", "x.place_type", "x.place_id", "x.starts", "x.expires")
    }
        FROM holders h CROSS JOIN assignments x
        WHERE NOT h.holds_many AND x.tenant_id = {own} AND x.subject_type = h.kind AND x.subject_id = h.id
        UNION ALL
        {
        row("placed", "x.subject_type", "x.subject_id", "x.role", "x.place_type", "x.place_id", "x.starts", "x.expires")
    }
        FROM asked_placed w CROSS JOIN assignments x
        WHERE x.tenant_id = {own} AND x.subject_type = w.kind AND x.subject_id = w.id
          AND x.place_type = w.place_type AND x.place_id = w.place_id
        UNION ALL
        {
        row(
            "resource",
            "c.type",
            "c.id",
            "c.parent_type",
            "c.parent_id",
            "c.attributes",
            "CASE WHEN c.deleted THEN '1' ELSE '0' END",
        )
    }
        FROM chain c
    """)
