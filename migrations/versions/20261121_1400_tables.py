"""All tables, the roles of the services, and the wall between tenants.

Safety note
    Locks: none that anybody waits for, since all tables are new.
    Time: a moment, for the same reason.
    Way back: drops the tables with all that they hold; `bylaw migrate down` refuses where they hold facts, and a backup
        is the only way to have them again. The roles stay, since other databases of the server may use them; what this
        database gave them is taken back.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261121_1400"
down_revision = None
branch_labels = None
depends_on = None

SIDECAR, ADMIN = "bylaw_sidecar", "bylaw_admin"

#: Rows of one tenant, which row-level security shows to a transaction of that tenant alone.
OWNED_FACTS = (
    "tenant_profiles",
    "memberships",
    "groups",
    "group_nestings",
    "group_members",
    "assignments",
    "resources",
    "custom_roles",
)
SHARED_FACTS = (
    "tenants",
    "principals",
    "platform_groups",
    "platform_nestings",
    "platform_members",
    "system_assignments",
    "links",
    "blocked_tokens",
    "token_horizons",
)
FACTS = SHARED_FACTS + OWNED_FACTS

GRANTS = (
    (SIDECAR, "SELECT", ("alembic_version", "store", "revisions", "changes", "settle", *FACTS)),
    (SIDECAR, "SELECT, INSERT, DELETE", ("settle_acks",)),
    (SIDECAR, "SELECT, INSERT, UPDATE, DELETE", ("sidecars",)),
    (ADMIN, "SELECT", ("alembic_version",)),
    (ADMIN, "SELECT, INSERT", ("store", "names", "audit_log", "platform_audit_log")),
    (ADMIN, "SELECT, INSERT, UPDATE", ("pseudonyms",)),
    (
        ADMIN,
        "SELECT, INSERT, UPDATE, DELETE",
        ("revisions", "changes", "sidecars", "settle", "settle_acks", "presences", *FACTS),
    ),
)

# --- kinds of columns ---------------------------------------------------------------------------------


def _text() -> sa.Text:
    """Make a text that compares by byte, whatever the collation of the database."""
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _word(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=False, server_default=default)


def _maybe(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=True)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _is_postgres() -> bool:
    return op.get_context().dialect.name == "postgresql"


# --- up -----------------------------------------------------------------------------------------------


def upgrade() -> None:
    """Make tables and indexes, the first rows, and on PostgreSQL the roles and the wall."""
    _make_protocol()
    _make_shared()
    _make_links()
    _make_tokens_and_audit()
    _make_owned()
    _make_assignments_and_resources()
    _begin_history()
    if _is_postgres():
        _make_roles()
        _grant()
        _build_wall()


def _make_protocol() -> None:
    op.create_table(
        "store",
        _word("uuid"),
        _small("seq"),
        _word("since"),
        sa.PrimaryKeyConstraint("uuid", name="pk_store"),
        sa.UniqueConstraint("seq", name="uq_store_seq"),
    )
    op.create_table(
        "revisions",
        _word("stream"),
        _number("n"),
        _word("head"),
        sa.PrimaryKeyConstraint("stream", name="pk_revisions"),
    )
    op.create_table(
        "changes",
        _word("stream"),
        _number("n"),
        _word("before"),
        _word("head"),
        _word("keys"),
        _word("at"),
        sa.PrimaryKeyConstraint("stream", "n", name="pk_changes"),
    )
    op.create_table(
        "sidecars",
        _word("id"),
        _small("max_staleness_ms"),
        _word("started"),
        _word("seen"),
        sa.PrimaryKeyConstraint("id", name="pk_sidecars"),
    )
    op.create_table(
        "settle",
        _word("id"),
        _word("token"),
        _word("streams"),
        _word("at"),
        sa.PrimaryKeyConstraint("id", name="pk_settle"),
    )
    op.create_index("ix_settle_at", "settle", ["at"])
    op.create_table(
        "settle_acks",
        _word("settle_id"),
        _word("sidecar_id"),
        sa.PrimaryKeyConstraint("settle_id", "sidecar_id", name="pk_settle_acks"),
        sa.ForeignKeyConstraint(
            ["settle_id"], ["settle.id"], name="fk_settle_acks_settle_settle_id", ondelete="CASCADE"
        ),
    )


def _make_shared() -> None:
    op.create_table("names", _word("kind"), _word("id"), sa.PrimaryKeyConstraint("kind", "id", name="pk_names"))
    op.create_table("tenants", _word("id"), _word("status"), sa.PrimaryKeyConstraint("id", name="pk_tenants"))
    op.create_table(
        "principals",
        _word("type"),
        _word("id"),
        _word("status"),
        _word("attributes"),
        sa.PrimaryKeyConstraint("type", "id", name="pk_principals"),
    )
    op.create_table(
        "presences",
        _word("type"),
        _word("id"),
        _word("tenant_id"),
        sa.PrimaryKeyConstraint("type", "id", "tenant_id", name="pk_presences"),
    )
    op.create_table(
        "platform_groups",
        _word("id"),
        _word("attributes"),
        _flag("deleted"),
        sa.PrimaryKeyConstraint("id", name="pk_platform_groups"),
    )
    op.create_table(
        "platform_nestings",
        _word("inner_id"),
        _word("outer_id"),
        sa.PrimaryKeyConstraint("inner_id", "outer_id", name="pk_platform_nestings"),
        sa.ForeignKeyConstraint(
            ["inner_id"], ["platform_groups.id"], name="fk_platform_nestings_platform_groups_inner_id"
        ),
        sa.ForeignKeyConstraint(
            ["outer_id"], ["platform_groups.id"], name="fk_platform_nestings_platform_groups_outer_id"
        ),
    )
    op.create_index("ix_platform_nestings_outer_id", "platform_nestings", ["outer_id"])
    op.create_table(
        "platform_members",
        _word("type"),
        _word("id"),
        _word("group_id"),
        _word("starts", ""),
        _maybe("expires"),
        sa.PrimaryKeyConstraint("type", "id", "group_id", "starts", name="pk_platform_members"),
        sa.ForeignKeyConstraint(
            ["type", "id"], ["principals.type", "principals.id"], name="fk_platform_members_principals_type_id"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["platform_groups.id"], name="fk_platform_members_platform_groups_group_id"
        ),
    )
    op.create_index("ix_platform_members_group_id", "platform_members", ["group_id"])
    op.create_table(
        "system_assignments",
        _word("type"),
        _word("id"),
        _word("role"),
        _word("starts", ""),
        _maybe("expires"),
        sa.PrimaryKeyConstraint("type", "id", "role", "starts", name="pk_system_assignments"),
        sa.ForeignKeyConstraint(
            ["type", "id"], ["principals.type", "principals.id"], name="fk_system_assignments_principals_type_id"
        ),
    )


def _make_links() -> None:
    op.create_table(
        "links",
        _word("type"),
        _word("id"),
        _word("home_id"),
        _word("tenant_id"),
        _word("place_type"),
        _word("place_id"),
        _word("role"),
        _word("starts", ""),
        _maybe("expires"),
        _maybe("home_status"),
        _word("home_starts", ""),
        _maybe("home_expires"),
        sa.PrimaryKeyConstraint(
            "type", "id", "home_id", "tenant_id", "place_type", "place_id", "role", "starts", name="pk_links"
        ),
        sa.ForeignKeyConstraint(
            ["type", "id"], ["principals.type", "principals.id"], name="fk_links_principals_type_id"
        ),
        sa.ForeignKeyConstraint(["home_id"], ["tenants.id"], name="fk_links_tenants_home_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_links_tenants_tenant_id"),
    )
    op.create_index("ix_links_tenant_id_place_type_place_id", "links", ["tenant_id", "place_type", "place_id"])
    op.create_index("ix_links_home_id_type_id", "links", ["home_id", "type", "id"])


def _make_tokens_and_audit() -> None:
    op.create_table(
        "blocked_tokens",
        _word("type"),
        _word("id"),
        _word("jti"),
        _word("until"),
        sa.PrimaryKeyConstraint("type", "id", "jti", name="pk_blocked_tokens"),
    )
    op.create_index("ix_blocked_tokens_until", "blocked_tokens", ["until"])
    op.create_table(
        "token_horizons",
        _word("type"),
        _word("id"),
        _word("valid_after"),
        sa.PrimaryKeyConstraint("type", "id", name="pk_token_horizons"),
    )
    op.create_table(
        "pseudonyms",
        _word("pseudonym"),
        _maybe("ref"),
        sa.PrimaryKeyConstraint("pseudonym", name="pk_pseudonyms"),
        sa.UniqueConstraint("ref", name="uq_pseudonyms_ref"),
    )
    for table, whose in (("platform_audit_log", "stream"), ("audit_log", "tenant_id")):
        op.create_table(
            table,
            _word(whose),
            _number("n"),
            _word("at"),
            _word("actor"),
            _word("entries"),
            _word("before"),
            _word("hash"),
            sa.PrimaryKeyConstraint(whose, "n", name=f"pk_{table}"),
        )


def _make_owned() -> None:
    op.create_table(
        "tenant_profiles",
        _word("tenant_id"),
        _word("attributes"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenant_profiles"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_tenant_profiles_tenants_tenant_id"),
    )
    op.create_table(
        "memberships",
        _word("tenant_id"),
        _word("type"),
        _word("id"),
        _word("status"),
        _word("starts", ""),
        _maybe("expires"),
        sa.PrimaryKeyConstraint("tenant_id", "type", "id", name="pk_memberships"),
    )
    op.create_table(
        "groups",
        _word("tenant_id"),
        _word("id"),
        _word("attributes"),
        _flag("deleted"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_groups"),
    )
    op.create_table(
        "group_nestings",
        _word("tenant_id"),
        _word("inner_id"),
        _word("outer_id"),
        sa.PrimaryKeyConstraint("tenant_id", "inner_id", "outer_id", name="pk_group_nestings"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "inner_id"],
            ["groups.tenant_id", "groups.id"],
            name="fk_group_nestings_groups_tenant_id_inner_id",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "outer_id"],
            ["groups.tenant_id", "groups.id"],
            name="fk_group_nestings_groups_tenant_id_outer_id",
        ),
    )
    op.create_index("ix_group_nestings_tenant_id_outer_id", "group_nestings", ["tenant_id", "outer_id"])
    op.create_table(
        "group_members",
        _word("tenant_id"),
        _word("type"),
        _word("id"),
        _word("group_id"),
        _word("starts", ""),
        _maybe("expires"),
        sa.PrimaryKeyConstraint("tenant_id", "type", "id", "group_id", "starts", name="pk_group_members"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "group_id"],
            ["groups.tenant_id", "groups.id"],
            name="fk_group_members_groups_tenant_id_group_id",
        ),
    )
    op.create_index("ix_group_members_tenant_id_group_id", "group_members", ["tenant_id", "group_id"])
    op.create_table(
        "custom_roles",
        _word("tenant_id"),
        _word("name"),
        _word("place_type"),
        _word("can"),
        _flag("deleted"),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="pk_custom_roles"),
    )


def _make_assignments_and_resources() -> None:
    op.create_table(
        "assignments",
        _word("tenant_id"),
        _word("subject_type"),
        _word("subject_id"),
        _word("place_type"),
        _word("place_id"),
        _word("role"),
        _word("starts", ""),
        _maybe("expires"),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "subject_type",
            "subject_id",
            "place_type",
            "place_id",
            "role",
            "starts",
            name="pk_assignments",
        ),
    )
    op.create_index(
        "ix_assignments_tenant_id_place_type_place_id", "assignments", ["tenant_id", "place_type", "place_id"]
    )
    _create_partial_index("ix_assignments_expiring", "assignments", ["tenant_id", "expires"], "expires IS NOT NULL")
    op.create_table(
        "resources",
        _word("tenant_id"),
        _word("type"),
        _word("id"),
        _maybe("parent_type"),
        _maybe("parent_id"),
        _word("attributes"),
        _flag("deleted"),
        sa.PrimaryKeyConstraint("tenant_id", "type", "id", name="pk_resources"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_type", "parent_id"],
            ["resources.tenant_id", "resources.type", "resources.id"],
            name="fk_resources_resources_tenant_id_parent_type_parent_id",
        ),
    )
    _create_partial_index(
        "ix_resources_children", "resources", ["tenant_id", "parent_type", "parent_id"], "NOT deleted"
    )


def _create_partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def _begin_history() -> None:
    """Name the history that begins here, and its first two streams."""
    store = sa.table("store", sa.column("uuid"), sa.column("seq"), sa.column("since"))
    op.bulk_insert(store, [{"uuid": uuid.uuid4().hex, "seq": 1, "since": _now()}])
    revisions = sa.table("revisions", sa.column("stream"), sa.column("n"), sa.column("head"))
    op.bulk_insert(revisions, [{"stream": "g", "n": 0, "head": ""}, {"stream": "p", "n": 0, "head": ""}])


def _now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


# --- PostgreSQL: who may do what ----------------------------------------------------------------------


def _make_roles() -> None:
    """Make the roles unless they are there. Another database of the server may be making them at this moment."""
    for role in (SIDECAR, ADMIN):
        op.execute(f"""
            DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} NOLOGIN; END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END $$
        """)


def _grant() -> None:
    for role, rights, tables in GRANTS:
        op.execute(f"GRANT {rights} ON {', '.join(tables)} TO {role}")
    for role in (SIDECAR, ADMIN):  # the schema is seldom the owner's to give, and mostly open to all
        op.execute(f"""
            DO $$ BEGIN
                IF NOT has_schema_privilege('{role}', current_schema(), 'USAGE') THEN
                    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {role}', current_schema());
                END IF;
            END $$
        """)


def _build_wall() -> None:
    """Show rows of a tenant to transactions of that tenant alone, the tables' owner included.

    An audit row may be written for any tenant: what concerns two stands in the chains of both. The setting is empty,
    not NULL, after the first transaction of a connection that had a tenant: so no row may have an empty tenant.

    The setting stands in the policy as it is. `NULLIF` around it, for each table of each load of facts, took several
    times as long as all else that the wall costs; a scalar sub-select hides from the planner which tenant it is.
    """
    for table in (*OWNED_FACTS, "audit_log"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    own = "tenant_id = current_setting('bylaw.tenant', true)"
    for table in OWNED_FACTS:
        op.execute(f"CREATE POLICY own ON {table} USING ({own}) WITH CHECK ({own} AND tenant_id <> '')")
    op.execute(f"CREATE POLICY own ON audit_log FOR SELECT USING ({own})")
    op.execute("CREATE POLICY any_chain ON audit_log FOR INSERT WITH CHECK (tenant_id <> '')")


# --- down ---------------------------------------------------------------------------------------------


def downgrade() -> None:
    """Drop everything but the roles."""
    if _is_postgres():
        _revoke()
    for table in (
        *("audit_log", "custom_roles", "resources", "assignments", "group_members", "group_nestings", "groups"),
        *("memberships", "tenant_profiles", "platform_audit_log", "pseudonyms", "token_horizons", "blocked_tokens"),
        *("links", "system_assignments", "platform_members", "platform_nestings", "platform_groups", "presences"),
        *("principals", "tenants", "names", "settle_acks", "settle", "sidecars", "changes", "revisions", "store"),
    ):
        op.drop_table(table)


def _revoke() -> None:
    """Take back what goes beyond the tables, whose grants end with them."""
    op.execute(f"REVOKE ALL ON alembic_version FROM {SIDECAR}, {ADMIN}")
    op.execute(f"""
        DO $$ BEGIN
            EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM {SIDECAR}, {ADMIN}', current_schema());
        END $$
    """)
