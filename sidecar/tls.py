"""TLS of the service: its own certificate, and who vouches for callers, from files that are renewed while it runs.

    files ──▶ `server_context`: all of them, or none ──▶ `Renewing.context` ──▶ each new connection

`Renewing.context` is one object for as long as the service listens, and makes each connection by the newest context
that could be made of the files. To load new files into the context in use would seem simpler. But of a certificate
whose key is not there yet it would keep half, and an authority it never forgets: who may vouch once could for ever. So
what is half copied, or broken, leaves the context before at work.

A client certificate is asked for and need not come, so that who only watches the service needs none; one that comes
must be good. It is looked at when a connection is opened, and counts for as long as that is open: who shall ask no more
is taken off the list of callers. Lists of revoked certificates are not read for the same reason. TLS 1.3 resumes
nothing here, so that each connection is looked at; what TLS 1.2 may resume, for two hours, ends with the context.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from sidecar.settings import SettingsError

#: What tells a file from what stood there before: None where there is none.
_Stamp = tuple[int, int, int, int] | None


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """Make a context of files in PEM.

    Args:
        certificate: the service's, and those that lead to an authority.
        client_ca: authorities that vouch for callers; None: nobody is asked for a certificate.

    Raises:
        SettingsError: a file is missing or none of its kind, or one does not belong to the other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    _load_own(context, certificate, key)
    if client_ca is not None:
        _load_authorities(context, client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def no_password() -> str:
        raise SettingsError(f"{key}: this key needs a password, which nobody is there to give: store it without one")

    _require_file(certificate)
    _require_file(key)
    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"{key} is not the key of {certificate}") from error
        raise SettingsError(f"{certificate}, {key}: expected a certificate and its key, both in PEM") from error
    except OSError as error:
        raise SettingsError(f"{certificate}, {key}: {error.strerror}") from error


def _load_authorities(context: ssl.SSLContext, client_ca: Path) -> None:
    _require_file(client_ca)
    try:
        context.load_verify_locations(client_ca)
    except OSError as error:  # of `ssl`, too
        raise SettingsError(f"{client_ca}: expected certificates of authorities, in PEM") from error
    if not context.get_ca_certs():
        raise SettingsError(f"{client_ca}: there is no authority's certificate in it, so it vouches for nobody")


def _require_file(path: Path) -> None:
    """Refuse what cannot be read: `ssl` does not say which of its files that is."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error


class _Newest(ssl.SSLContext):
    """Makes each connection by another context."""

    newest: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection: what event loops call."""
        return self.newest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class Renewing:
    """The context to listen with, and its renewal: call `poll` every few seconds.

    Args:
        report: is told of what was renewed, and once of what cannot be.

    Attributes:
        problem: why the files as they are now are not used; None: they are.

    Raises:
        SettingsError: as `server_context`.
    """

    def __init__(
        self, certificate: Path, key: Path, client_ca: Path | None, *, report: Callable[[str], None] = lambda _: None
    ) -> None:
        self._files = (certificate, key, client_ca)
        self._report = report
        self._seen = self._stamps()
        self._context = _Newest(ssl.PROTOCOL_TLS_SERVER)
        self._context.newest = server_context(*self._files)
        self.problem: str | None = None

    @property
    def context(self) -> ssl.SSLContext:
        return self._context

    def poll(self) -> None:
        """Look at the files, and let new connections have what is new. It reads a few small files and does not wait."""
        stamps = self._stamps()  # before they are read: what changes meanwhile is seen next time
        if stamps == self._seen and self.problem is None:
            return
        try:
            self._context.newest = server_context(*self._files)
        except SettingsError as error:
            if error.message != self.problem:
                self._report(f"TLS goes on with the files before: {error.message}")
            self.problem = error.message
        else:
            self._seen, self.problem = stamps, None
            self._report(f"renewed TLS from {self._files[0]}")

    def _stamps(self) -> list[_Stamp]:
        return [_stamp(path) for path in self._files if path is not None]


def _stamp(path: Path) -> _Stamp:
    try:
        said = path.stat()
    except OSError:
        return None
    return said.st_mtime_ns, said.st_size, said.st_ino, said.st_dev
