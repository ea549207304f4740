"""A small world for tests of what administrators look at: two tenants, a link between them, who may look, who not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.admin.service import World, make_world

POLICY: Final = """
system { actions read_audit }
tenant organization { actions read_access, read_audit, manage }
resource project in organization { actions read, update, delete  attributes { locked: bool, owner: user } }
principal user
role auditor on organization          { can read_access, read_audit }
role editor  on organization          { can project.read, project.update }
role visitor on organization crossing { can project.read }
role chief   on system                { can system.read_audit }
allow own: anyone to project.delete when resource.owner == principal
deny locked: anyone to project.update, project.delete when resource.locked because "the project is locked"
"""
FACTS: Final = """
tenants: { acme: {}, globex: {} }
users:
  ada: { members: { acme: active } }
  bob: { members: { acme: active } }
  eve: { members: { globex: active } }
  gil: { members: { globex: active } }
  rob: {}
resources:
  project:p1: { parent: organization:acme, attributes: { locked: true, owner: user:ada } }
  project:p2: { parent: organization:acme, attributes: { locked: false, owner: user:bob } }
assignments:
  - { subject: user:ada, role: auditor, on: organization:acme }
  - { subject: user:bob, role: editor, on: organization:acme }
  - { subject: user:gil, role: auditor, on: organization:globex }
  - { subject: user:rob, role: chief, on: system }
"""


def make_small_world(folder: Path) -> World:
    """Make it."""
    policies = folder / "policies"
    policies.mkdir()
    (policies / "small.bylaw").write_text(POLICY, "utf-8")
    (folder / "facts.yaml").write_text(FACTS, "utf-8")
    return make_world(policies, folder / "facts.yaml", folder)
