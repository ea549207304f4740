"""Changing facts: every function does one thing within an open `Write`.

It checks under the locks that the write took when it began, changes rows, and names what it changed: to processes that
decide by the keys of `streams`, to the audit log by `record`. Each statement names the write's own tenant; row-level
security says the same once more.

What nobody may ever do is refused here, whatever a policy says: names come back to life, cycles, something below what
is deleted. What a policy has to say (types, attributes, roles that exist, who may) is for the callers, who know one.

    tenants  principals  memberships  groups  platform_groups  assignments  resources  links  custom_roles  tokens
    callers  api_keys  invitations  approvals  idempotency  personal_data  retention  ciphertexts
    rows  attributes  periods  standing  presence  removal  grouping  circumstances
    departures      what these have in common

Refusals have these codes: `taken`, `not_there` (what was to be changed), `unknown` and `deleted` (what was referred
to), `cycle`, `too_deep`, `too_many`, `bad_…` (a value), `needs_shared`, `over` (what can be
ended once has ended), `not_self`, `repeated` and `key_reused` (a request).
"""
