"""Keys of the shared cache: one for each view, whatever its ids are made of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cache_key import PREFIXES, cache_key
from store.streams import group_key, principal_key, resource_key, tenant_key

#: Text with all that might end a part too early.
IDS = st.text(st.one_of(st.sampled_from(":{}%/*?[]\\ \0é"), st.characters()), min_size=1, max_size=6)
TYPES = st.sampled_from(["user", "service", "task"])
VIEWS = st.one_of(
    st.builds(lambda kind, name: principal_key(f"{kind}:{name}"), TYPES, IDS),
    st.builds(lambda kind, name: resource_key(f"{kind}:{name}"), TYPES, IDS),
    st.builds(group_key, IDS),
    st.builds(tenant_key, IDS),
    st.just("tenant"),
)
SLOTS = st.tuples(st.one_of(st.just(""), IDS), VIEWS)


@pytest.mark.parametrize(
    ("tenant", "key", "expected"),
    [
        ("", "principal:user:ann", "bylaw:v1:g:principal:user:ann"),
        ("", "group:staff", "bylaw:v1:g:group:staff"),
        ("", "tenant:acme", "bylaw:v1:g:tenant:acme"),
        ("acme", "principal:user:ann", "bylaw:v1:t:{acme}:principal:user:ann"),
        ("acme", "resource:task:t1", "bylaw:v1:t:{acme}:resource:task:t1"),
        ("acme", "tenant", "bylaw:v1:t:{acme}:tenant"),
        ("acme", "group:a:b", "bylaw:v1:t:{acme}:group:a%3Ab"),
        ("acme", "resource:task:a:b", "bylaw:v1:t:{acme}:resource:task:a%3Ab"),
        ("a}b", "principal:user:{x}", "bylaw:v1:t:{a%7Db}:principal:user:%7Bx%7D"),
        ("", "principal:user:100% Zoë", "bylaw:v1:g:principal:user:100%25%20Zo%C3%AB"),
        ("", "principal:user:\ud800", "bylaw:v1:g:principal:user:%ED%A0%80"),
    ],
)
def test_a_key_is_a_tuple_of_encoded_parts(tenant: str, key: str, expected: str) -> None:
    """What is special in a key is encoded in its parts."""
    assert cache_key(tenant, key) == expected


@pytest.mark.property
@given(SLOTS, SLOTS)
def test_two_views_have_two_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    """No id makes the key of another view."""
    assert (cache_key(*one) == cache_key(*other)) == (one == other)


@pytest.mark.property
@given(SLOTS, VIEWS)
def test_keys_of_a_tenant_share_a_hash_tag(slot: tuple[str, str], view: str) -> None:
    """What Redis Cluster hashes of a key is its tenant's name, for all of the tenant's keys."""
    tenant, key = slot

    tags = {re.findall(r"[{](.*?)[}]", cache_key(tenant, each)) != [] for each in (key, view)}

    assert tags == {bool(tenant)}
    assert cache_key(tenant, key).partition("}")[0] == cache_key(tenant, view).partition("}")[0] or not tenant


@pytest.mark.property
@given(SLOTS)
def test_a_key_begins_as_ours_do(slot: tuple[str, str]) -> None:
    """Each key begins with one of the listed prefixes, and is plain ASCII without spaces."""
    key = cache_key(*slot)

    assert [prefix for prefix in PREFIXES if key.startswith(prefix)] != []
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key


def test_no_prefix_begins_another() -> None:
    """Prefixes tell apart what they are for."""
    assert [(one, other) for one in PREFIXES for other in PREFIXES if one != other and one.startswith(other)] == []
