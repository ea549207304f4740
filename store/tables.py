"""All tables. `migrations/` makes them; a test holds the two together.

Four kinds. Those of one tenant (`OWNED`) have `tenant_id` first in every key, and row-level security shows a
transaction the rows of its own tenant only. Those of all tenants hold what stream `g` covers. Those of the protocol
hold counters and keys, no facts. Those of administration hold what who decides never reads: the role of the decision
service has no right on them, whether they are one tenant's or all tenants'.

Texts compare by byte. Times are as in `times`, attributes canonical JSON text: what they mean is for a policy to say,
so nothing is gained by having the database take them apart. Assignments name their subject and place without foreign
keys: a role may be held on an instance that only the application knows, by a principal that only the identity provider
knows.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

meta = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text() -> Text:
    return Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def _key(name: str) -> Column[str]:
    return Column(name, _text(), primary_key=True)


def _word(name: str, default: str | None = None) -> Column[str]:
    return Column(name, _text(), nullable=False, server_default=default)


def _maybe(name: str) -> Column[str | None]:
    return Column(name, _text(), nullable=True)


def _times() -> tuple[Column[str], Column[str | None]]:
    return _word("starts", ""), _maybe("expires")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean(), nullable=False, server_default=false())


_ATTRIBUTES = "attributes"
_LIVE = text("NOT deleted")
_ENDS = text("expires IS NOT NULL")
_NOT_DELETED = text("status <> 'deleted'")

# --- the protocol: counters, keys, receipts -----------------------------------------------------------

#: Which history this is: one row, and a row for each that it once was, before a restore.
store = Table(
    "store", meta, _key("uuid"), Column("seq", Integer(), nullable=False), _word("since"), UniqueConstraint("seq")
)
#: One counter per stream. `head` is the hash of the stream's last audit row: it names the whole history so far.
revisions = Table("revisions", meta, _key("stream"), Column("n", BigInteger(), nullable=False), _word("head"))
#: What each revision changed, for an hour: `keys` is a JSON list. `before` is the head that it was written upon.
changes = Table(
    "changes",
    meta,
    _key("stream"),
    Column("n", BigInteger(), primary_key=True, autoincrement=False),
    _word("before"),
    _word("head"),
    _word("keys"),
    _word("at"),
)
#: In place of when a process was last seen: it was not for long. What it polls is not applied until it registers anew.
GIVEN_UP: Final = ""
#: Processes that decide.
sidecars = Table(
    "sidecars", meta, _key("id"), Column("max_staleness_ms", Integer(), nullable=False), _word("started"), _word("seen")
)
#: Revisions that somebody waits for until every process has applied them: `streams` is a JSON object, stream to n.
settle = Table("settle", meta, _key("id"), _word("token"), _word("streams"), _word("at"), Index(None, "at"))
settle_acks = Table(
    "settle_acks",
    meta,
    _key("settle_id"),
    _key("sidecar_id"),
    ForeignKeyConstraint(["settle_id"], ["settle.id"], ondelete="CASCADE"),
)

# --- published policies: stream p ---------------------------------------------------------------------

#: What was uploaded: files by name as a JSON object, and the text of their lock; never changed.
policies = Table(
    "policies",
    meta,
    _key("id"),
    _word("digest"),
    _word("files"),
    _maybe("lock"),
    _word("note"),
    _word("made"),
    _word("made_by"),
)
#: What decides from a revision of the stream on; NULL: what each process finds in its directory.
publications = Table(
    "publications",
    meta,
    Column("n", BigInteger(), primary_key=True, autoincrement=False),
    _maybe("policy_id"),
    _word("at"),
    _word("by"),
    ForeignKeyConstraint(["policy_id"], ["policies.id"]),
)

# --- what all tenants share: stream g -----------------------------------------------------------------

#: Ids of tenants, users, services and groups that were ever given: none is given twice.
names = Table("names", meta, _key("kind"), _key("id"))
tenants = Table(
    "tenants",
    meta,
    _key("id"),
    _word("status"),
    Index(None, "status", "id"),
    Index("ix_tenants_not_deleted", "id", postgresql_where=_NOT_DELETED, sqlite_where=_NOT_DELETED),
)
principals = Table(
    "principals",
    meta,
    _key("type"),
    _key("id"),
    _word("status"),
    _word(_ATTRIBUTES),
    Index(None, "type", "status", "id"),
    Index("ix_principals_not_deleted", "type", "id", postgresql_where=_NOT_DELETED, sqlite_where=_NOT_DELETED),
)
#: In which tenants a principal has rows: ids only, so that leaving everything needs no look into every tenant.
presences = Table("presences", meta, _key("type"), _key("id"), _key("tenant_id"))
platform_groups = Table("platform_groups", meta, _key("id"), _word(_ATTRIBUTES), _flag("deleted"))
platform_nestings = Table(
    "platform_nestings",
    meta,
    _key("inner_id"),
    _key("outer_id"),
    ForeignKeyConstraint(["inner_id"], ["platform_groups.id"]),
    ForeignKeyConstraint(["outer_id"], ["platform_groups.id"]),
    Index(None, "outer_id"),
)
platform_members = Table(
    "platform_members",
    meta,
    _key("type"),
    _key("id"),
    _key("group_id"),
    Column("starts", _text(), primary_key=True, server_default=""),
    _maybe("expires"),
    ForeignKeyConstraint(["type", "id"], ["principals.type", "principals.id"]),
    ForeignKeyConstraint(["group_id"], ["platform_groups.id"]),
    Index(None, "group_id"),
)
system_assignments = Table(
    "system_assignments",
    meta,
    _key("type"),
    _key("id"),
    _key("role"),
    Column("starts", _text(), primary_key=True, server_default=""),
    _maybe("expires"),
    ForeignKeyConstraint(["type", "id"], ["principals.type", "principals.id"]),
)
#: Roles held over the wall. `home_*` repeats the holder's membership at home (NULL status: none): a decision in the
#: target tenant must not look into another one.
links = Table(
    "links",
    meta,
    _key("type"),
    _key("id"),
    _key("home_id"),
    _key("tenant_id"),
    _key("place_type"),
    _key("place_id"),
    _key("role"),
    Column("starts", _text(), primary_key=True, server_default=""),
    _maybe("expires"),
    _maybe("home_status"),
    _word("home_starts", ""),
    _maybe("home_expires"),
    ForeignKeyConstraint(["type", "id"], ["principals.type", "principals.id"]),
    ForeignKeyConstraint(["home_id"], ["tenants.id"]),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    Index(None, "tenant_id", "place_type", "place_id"),
    Index(None, "home_id", "type", "id"),
    Index("ix_links_listed", "tenant_id", "type", "id", "home_id", "place_type", "place_id", "role", "starts"),
    Index("ix_links_expiring", "tenant_id", "expires", postgresql_where=_ENDS, sqlite_where=_ENDS),
)
#: Tokens that count no more though their time has not come.
blocked_tokens = Table(
    "blocked_tokens", meta, _key("type"), _key("id"), _key("jti"), _word("until"), Index(None, "until")
)
#: All tokens of a principal that were issued before.
token_horizons = Table("token_horizons", meta, _key("type"), _key("id"), _word("valid_after"))
#: Who may ask for decisions, by `key:` and the SHA-256 of a key, or by `certificate:` and a name in one. `tenants` and
#: `scopes` are JSON lists; NULL tenants: all.
callers = Table(
    "callers",
    meta,
    _key("id"),
    _word("name"),
    _word("prefix"),
    _maybe("tenants"),
    _word("scopes"),
    _maybe("rate"),
    _maybe("expires"),
    _word("made"),
    UniqueConstraint("name"),
)
#: Who stands behind a name in the audit logs. Erasure empties it, and the chains still verify.
pseudonyms = Table("pseudonyms", meta, _key("pseudonym"), _maybe("ref"), UniqueConstraint("ref"))
platform_audit_log = Table(
    "platform_audit_log",
    meta,
    _key("stream"),
    Column("n", BigInteger(), primary_key=True, autoincrement=False),
    _word("at"),
    _word("actor"),
    _word("entries"),
    _word("before"),
    _word("hash"),
)

# --- administration, of all tenants -------------------------------------------------------------------

_NOT_REVOKED, _REVOKED = text("revoked_at IS NULL"), text("revoked_at IS NOT NULL")
#: Who may administer, by the SHA-256 of a key. `scopes` is a JSON list. `last_used` is written now and then.
api_keys = Table(
    "api_keys",
    meta,
    _key("id"),
    _word("name"),
    _word("prefix"),
    _word("digest"),
    _word("scopes"),
    _word("made"),
    _word("made_by"),
    _maybe("expires"),
    _maybe("revoked_at"),
    _maybe("last_used"),
    UniqueConstraint("digest"),
    Index("ix_api_keys_live", "id", postgresql_where=_NOT_REVOKED, sqlite_where=_NOT_REVOKED),
    Index("ix_api_keys_revoked", "id", postgresql_where=_REVOKED, sqlite_where=_REVOKED),
)
#: Into which tenant the token of an open invitation leads. It is all that is known of one outside of its tenant.
invitation_tokens = Table(
    "invitation_tokens",
    meta,
    _key("digest"),
    _word("tenant_id"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
)
#: What a request was answered that may be sent again: `headers` is a JSON object; NULL status: it is under way.
idempotency_keys = Table(
    "idempotency_keys",
    meta,
    _key("actor"),
    _key("key"),
    _word("request"),
    Column("status", Integer(), nullable=True),
    _maybe("body"),
    _maybe("headers"),
    _word("made"),
    Index(None, "made"),
)
#: What is known of persons beside facts, encrypted. By `blind_index` one value is found without being read.
personal_data = Table(
    "personal_data",
    meta,
    _key("type"),
    _key("id"),
    _key("field"),
    _word("value"),
    _maybe("blind_index"),
    _word("changed"),
    UniqueConstraint("field", "blind_index"),
)
#: Who asked to be forgotten, by the pseudonym that he had; NULL `done_at`: it is not done.
erasures = Table(
    "erasures",
    meta,
    _key("id"),
    _word("pseudonym"),
    _word("requested_at"),
    _word("requested_by"),
    _maybe("done_at"),
)

# --- retention, of all tenants --------------------------------------------------------------------------

#: How many days something is kept; what has no row is kept as long as is usual.
retention_periods = Table("retention_periods", meta, _key("name"), Column("days", Integer(), nullable=False))
#: Users, services and groups of the platform that were deleted. NULL `cleared_at`: tenants may still have rows of them;
#: NULL `forgotten_at`: it may still be known who it was. Of who is forgotten no time is known: it is empty.
departures = Table(
    "departures", meta, _key("type"), _key("id"), _word("deleted_at"), _maybe("cleared_at"), _maybe("forgotten_at")
)

# --- what was refused: chains of their own ------------------------------------------------------------

#: How far each chain of refusals is: the number and the hash of its last row.
refusal_heads = Table("refusal_heads", meta, _key("stream"), Column("n", BigInteger(), nullable=False), _word("head"))
#: What was refused to whom where no tenant was named that there is: stream r.
platform_refusals = Table(
    "platform_refusals",
    meta,
    _key("stream"),
    Column("n", BigInteger(), primary_key=True, autoincrement=False),
    _word("at"),
    _word("actor"),
    _word("entries"),
    _word("before"),
    _word("hash"),
)
#: What was refused to whom in a tenant: stream r:TENANT. Of one tenant, as those below.
refusals = Table(
    "refusals",
    meta,
    _key("tenant_id"),
    Column("n", BigInteger(), primary_key=True, autoincrement=False),
    _word("at"),
    _word("actor"),
    _word("entries"),
    _word("before"),
    _word("hash"),
)
#: What a tenant demands of invitations, links and keys: a JSON object.
tenant_security = Table(
    "tenant_security",
    meta,
    _key("tenant_id"),
    _word("settings"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
)

# --- what one tenant owns: stream t:TENANT ------------------------------------------------------------

tenant_profiles = Table(
    "tenant_profiles",
    meta,
    _key("tenant_id"),
    _word(_ATTRIBUTES),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
)
memberships = Table(
    "memberships",
    meta,
    _key("tenant_id"),
    _key("type"),
    _key("id"),
    _word("status"),
    *_times(),
    Index(None, "tenant_id", "status", "type", "id"),
    Index("ix_memberships_expiring", "tenant_id", "expires", postgresql_where=_ENDS, sqlite_where=_ENDS),
)
groups = Table("groups", meta, _key("tenant_id"), _key("id"), _word(_ATTRIBUTES), _flag("deleted"))
group_nestings = Table(
    "group_nestings",
    meta,
    _key("tenant_id"),
    _key("inner_id"),
    _key("outer_id"),
    ForeignKeyConstraint(["tenant_id", "inner_id"], ["groups.tenant_id", "groups.id"]),
    ForeignKeyConstraint(["tenant_id", "outer_id"], ["groups.tenant_id", "groups.id"]),
    Index(None, "tenant_id", "outer_id"),
)
group_members = Table(
    "group_members",
    meta,
    _key("tenant_id"),
    _key("type"),
    _key("id"),
    _key("group_id"),
    Column("starts", _text(), primary_key=True, server_default=""),
    _maybe("expires"),
    ForeignKeyConstraint(["tenant_id", "group_id"], ["groups.tenant_id", "groups.id"]),
    Index("ix_group_members_listed", "tenant_id", "group_id", "type", "id", "starts"),
)
#: `subject_type` is `user`, `service`, `group` or `anyone` (then the id is `anyone` too).
assignments = Table(
    "assignments",
    meta,
    _key("tenant_id"),
    _key("subject_type"),
    _key("subject_id"),
    _key("place_type"),
    _key("place_id"),
    _key("role"),
    Column("starts", _text(), primary_key=True, server_default=""),
    _maybe("expires"),
    Index(
        "ix_assignments_places",
        "tenant_id",
        "place_type",
        "place_id",
        "subject_type",
        "subject_id",
        "role",
        "starts",
    ),
    Index(
        "ix_assignments_roles",
        "tenant_id",
        "role",
        "subject_type",
        "subject_id",
        "place_type",
        "place_id",
        "starts",
    ),
    Index("ix_assignments_expiring", "tenant_id", "expires", postgresql_where=_ENDS, sqlite_where=_ENDS),
)
resources = Table(
    "resources",
    meta,
    _key("tenant_id"),
    _key("type"),
    _key("id"),
    _maybe("parent_type"),
    _maybe("parent_id"),
    _word(_ATTRIBUTES),
    _flag("deleted"),
    ForeignKeyConstraint(
        ["tenant_id", "parent_type", "parent_id"], ["resources.tenant_id", "resources.type", "resources.id"]
    ),
    Index(
        "ix_resources_children",
        "tenant_id",
        "parent_type",
        "parent_id",
        "type",
        "id",
        postgresql_where=_LIVE,
        sqlite_where=_LIVE,
    ),
)
#: Roles that a tenant made: the type they are held on, and a JSON list of patterns.
custom_roles = Table(
    "custom_roles", meta, _key("tenant_id"), _key("name"), _word("place_type"), _word("can"), _flag("deleted")
)
_INVITATIONS = {
    "not_closed": text("accepted_at IS NULL AND withdrawn_at IS NULL"),
    "accepted": text("accepted_at IS NOT NULL"),
    "withdrawn": text("withdrawn_at IS NOT NULL"),
}
#: Who may become a member, as what, and with which roles: a JSON list of {role, on}. The address is encrypted, with an
#: index by which it is found; both are NULL once the invitation is accepted or withdrawn.
invitations = Table(
    "invitations",
    meta,
    _key("tenant_id"),
    _key("id"),
    _word("digest"),
    _maybe("email"),
    _maybe("email_index"),
    _word("roles"),
    _word("status"),
    _word("invited_by"),
    _word("made"),
    _word("expires"),
    _maybe("accepted_at"),
    _maybe("accepted_by"),
    _maybe("withdrawn_at"),
    UniqueConstraint("tenant_id", "digest"),
    Index(None, "tenant_id", "email_index"),
    *(
        Index(f"ix_invitations_{name}", "tenant_id", "id", postgresql_where=rows, sqlite_where=rows)
        for name, rows in _INVITATIONS.items()
    ),
)
_PENDING = text("outcome IS NULL")
#: Changes that wait for a second person, as JSON, and the role that each would give; NULL outcome: nobody decided.
approvals = Table(
    "approvals",
    meta,
    _key("tenant_id"),
    _key("id"),
    _word("change"),
    _word("subject_type"),
    _word("subject_id"),
    _word("place_type"),
    _word("place_id"),
    _word("role"),
    _word("requested_by"),
    _word("requested_at"),
    _word("expires"),
    _maybe("decided_by"),
    _maybe("decided_at"),
    _maybe("outcome"),
    Index("ix_approvals_pending", "tenant_id", "place_type", "place_id", "role", postgresql_where=_PENDING,
          sqlite_where=_PENDING),
    Index(None, "tenant_id", "outcome", "id"),
    Index("ix_approvals_subjects", "tenant_id", "subject_type", "subject_id", "id"),
)  # fmt: skip
#: How something was asked for that is judged again later, of an `approval` or an `invitation`: JSON, encrypted if there
#: are keys. The row goes when nobody need judge any more.
circumstances = Table("circumstances", meta, _key("tenant_id"), _key("kind"), _key("id"), _word("said"))
#: One row per revision: what was done by whom, chained by SHA-256.
audit_log = Table(
    "audit_log",
    meta,
    _key("tenant_id"),
    Column("n", BigInteger(), primary_key=True, autoincrement=False),
    _word("at"),
    _word("actor"),
    _word("entries"),
    _word("before"),
    _word("hash"),
)

#: Tables of one tenant, under row-level security.
OWNED = (
    tenant_profiles, memberships, groups, group_nestings, group_members, assignments, resources, custom_roles,
    invitations, approvals, circumstances, audit_log, refusals, tenant_security,
)  # fmt: skip
