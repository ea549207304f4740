"""`bylaw serve`: the decision service on the facts of a store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.settings import Settings

#: What may stand on the command line, with what its value is called and what it says; each also in the variable of its
#: name. Secrets may not: a command line shows them to everybody on the machine.
FLAGS: Final = (
    ("policies", "DIR", "directory of *.bylaw (policies)"),
    ("http", "HOST:PORT", "where to listen, or unix:/path (127.0.0.1:8180)"),
    ("grpc", "HOST:PORT", "where to listen for Envoy, or `none` (127.0.0.1:8181)"),
    ("envoy-http", "HOST:PORT", "where to listen for Envoy's HTTP variant alone (it is answered on --http)"),
    ("redis-url", "URL", "hints between processes, and limits that they share"),
    ("max-staleness", "TIME", "how old facts may be where the store cannot be reached (5s)"),
    ("callers", "WHO", "who may ask: loopback, token, mtls (loopback)"),
    ("jwks", "FILE|URL", "keys of end users' tokens"),
    ("issuer", "ISS", "who issues them"),
    ("audience", "AUD", "for whom they must be"),
    ("tenant-claim", "NAME", "the claim that names the tenant (tenant_id)"),
    ("roles-claim", "NAME", "the claim that lists claimable roles"),
    ("service-claim", "NAME", "the claim that makes a token a service's"),
    ("trusted-hops", "N", "how many hops of x-forwarded-for to believe (0)"),
    ("policy-key", "KEY", "public key by which policies must be signed"),
    ("tls-certificate", "FILE", "speak TLS, with this certificate chain"),
    ("tls-key", "FILE", "and this key"),
    ("tls-client-ca", "FILE", "who vouches for callers (--callers mtls)"),
    ("rate-limit", "N/TIME,…", "how much a caller may ask: 100/1s,5000/1m"),
    ("decision-log", "WHERE", "stdout, file:DIR or an https URL"),
    ("decision-log-mask", "PATHS", "what is masked in it: input.context.ip,…"),
    ("decision-log-sample", "RATES", "how much of it is kept: allow=0.1,deny=1"),
    ("log-format", "FORMAT", "of the service's own log: text or json (text)"),
    ("public-url", "URL", "how clients know the service"),
)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from sidecar.workers import serve

    return serve(settings_of(args))


def settings_of(args: argparse.Namespace, *, facts: str | None = None, dev: bool = False) -> Settings:
    """Read the settings: what is said on the command line over the environment over `.env`.

    Raises:
        BylawError: something is unknown, malformed or not safe.
    """
    from sidecar.settings import Settings
    from store.environment import environment

    names = [name.replace("-", "_") for name, _, _ in FLAGS] + ["database_url", "workers"]
    flags = {name: getattr(args, name) for name in names} | {"facts": facts}
    return Settings.read(environment(), flags, dev=dev, json=args.json)
