"""Retention on the wire: how long what is done with is kept, and what a run of the job came to."""

from __future__ import annotations

from pydantic import Field

from admin.wire import Shape

#: As long as a column of days may say.
MAX_DAYS = 36_500


class Periods(Shape):
    """For how many days something is kept after its end; what is not said is as it is usual."""

    invitations: int = Field(default=90, ge=1, le=MAX_DAYS, description="after they were accepted, withdrawn, or over")
    approvals: int = Field(default=365, ge=1, le=MAX_DAYS, description="requests, after they were decided, or over")
    expired: int = Field(default=1, ge=1, le=MAX_DAYS, description="roles, places in groups and links, after their end")
    deleted_users: int = Field(
        default=2557, ge=1, le=MAX_DAYS, description="what is known of them; 2557 are seven years"
    )


class RunQuery(Shape):
    """How to run."""

    dry_run: bool = Field(default=False, description="count what is due, and change nothing")
    after: str | None = Field(
        default=None, min_length=1, max_length=256, description="from the answer before: its `next`"
    )


class Swept(Shape):
    """What is gone, or with `dry_run` what is due."""

    dry_run: bool
    complete: bool = Field(
        description="false: the time was over first; run it again, with `after` where there is a `next`"
    )
    next: str | None = Field(default=None, description="the last tenant that was looked through")
    answers: int = Field(description="kept for requests that are sent twice")
    addresses: int = Field(description="of invitations that are over")
    circumstances: int = Field(description="how something was asked for that nobody judges any more")
    invitations: int
    approvals: int
    assignments: int
    group_places: int
    platform_places: int
    system_roles: int
    links: int
    blocked_tokens: int = Field(description="that are over")
    departures: int = Field(description="users, services and platform groups that are gone from every tenant")
    forgotten: int = Field(description="deleted users of whom nothing is known any more")
    erasures: int = Field(description="that were begun and cut off")
    processes: int = Field(description="that decide no more")
    receipts: int = Field(description="that nobody asks for any more")
    changes: int = Field(description="of the log that those who decide follow, older than an hour")
