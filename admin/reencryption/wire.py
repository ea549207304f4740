"""Re-encryption on the wire."""

from __future__ import annotations

from pydantic import Field

from admin.wire import Shape


class RenewQuery(Shape):
    """From where to go on."""

    after: str | None = Field(
        default=None, min_length=1, max_length=256, description="from the answer before: its `next`"
    )


class Renewed(Shape):
    """What was encrypted anew, and which keys are still needed."""

    complete: bool = Field(
        description="false: the time was over first; run it again, with `after` where there is a `next`"
    )
    next: str | None = Field(default=None, description="the last tenant that was looked through")
    current: str = Field(description="the id of the key that encrypts", examples=["2026-11"])
    renewed: dict[str, int] = Field(description="values, by table", examples=[{"personal_data": 3}])
    unreadable: dict[str, int] = Field(description="values that no key here decrypts, by table")
    in_use: dict[str, int] | None = Field(
        default=None,
        description="values by the id of their key, once all is looked through: a key with 0 may be removed",
        examples=[{"2026-11": 120, "2025-11": 0}],
    )
