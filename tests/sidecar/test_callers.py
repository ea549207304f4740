"""Who may ask, and what for."""

from __future__ import annotations

import pytest

from sidecar.callers import ALL_SCOPES, PLAIN_SCOPES, Caller, LoopbackCallers
from sidecar.errors import PublicError
from sidecar.exchange import Call

CALLERS = LoopbackCallers({"localhost", "localhost:80"}, PLAIN_SCOPES)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "", None])
def test_callers_on_this_machine(peer: str | None) -> None:
    """Loopback addresses and Unix sockets are this machine."""
    assert CALLERS.admit(Call("/check", peer, "localhost")).scopes == {"check", "search"}


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "::2", "fe80::1", "localhost", "127.0.0.1.example"])
def test_callers_from_elsewhere(peer: str) -> None:
    """Any other address is refused, whatever its header says."""
    with pytest.raises(PublicError) as caught:
        CALLERS.admit(Call("/check", peer, "localhost"))

    assert (caught.value.status, caught.value.code) == (403, "forbidden")


@pytest.mark.parametrize("host", [None, "", "evil.example", "localhost:81", "localhost.", " localhost"])
def test_other_hosts(host: str | None) -> None:
    """A Host that is not this machine's own is refused, and so is none."""
    with pytest.raises(PublicError) as caught:
        CALLERS.admit(Call("/check", "127.0.0.1", host))

    assert (caught.value.status, caught.value.code) == (403, "bad_host")


def test_scopes() -> None:
    """A caller may what its scopes say and no more."""
    caller = Caller(PLAIN_SCOPES)

    caller.require("check")
    with pytest.raises(PublicError, match="`explain`"):
        caller.require("explain")
    assert {"explain", "claims"} == ALL_SCOPES - PLAIN_SCOPES
