"""A policy without a tenant over a store: its one tenant has a stream of its own, and answers name its state."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import aiohttp

from engine.facts_file import parse_document
from engine.policy import Policy
from sidecar.addresses import Address
from sidecar.server import Service
from sidecar.settings import Settings
from store import migrating
from store.database import Database
from store.seed import seed
from store.tokens import Token

POLICY: Final = """
resource doc { actions read }
role reader on tenant { can doc.read }
"""
FACTS: Final = """
users: { ann: }
resources: { doc:d1: }
assignments: [{ subject: user:ann, role: reader, on: tenant }]
"""
ASKED: Final = {"subject": "user:ann", "action": "read", "resource": "doc:d1"}


def test_the_first_answer_names_the_whole_state(tmp_path: Path) -> None:
    """From the first answer on a revision names the tenant's own stream too, so that nobody who carries it is answered
    from before."""

    async def talk() -> list[str]:
        url = f"sqlite+aiosqlite:///{tmp_path / 'bylaw.db'}"
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "p.bylaw").write_text(POLICY, "utf-8")
        await migrating.up(url, report=lambda _: None)
        database = Database(url, pool_size=1)
        policy = Policy.parse(POLICY)
        await seed(database, policy, parse_document(FACTS.encode(), "facts"), name="facts", digest="d")
        await database.close()
        service = Service(
            Settings(tmp_path / "policies", http=Address("127.0.0.1", 0), database_url=url), report=lambda _: None
        )
        await service.start()
        try:
            async with aiohttp.ClientSession() as session:
                found = []
                for _ in range(2):
                    async with session.post(f"http://{service.address}/check", json=ASKED) as response:
                        said = await response.json()
                        assert said["decision"] is True, said
                        found.append(said["context"]["revision"])
                return found
        finally:
            await service.stop()

    first, second = map(Token.parse, asyncio.run(talk()))

    assert first.tenant is not None
    assert first.t > 0
    assert first == second
