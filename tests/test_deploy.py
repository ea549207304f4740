"""What lies in `deploy/` fits the product: its commands parse, its variables are known, its parts fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from bylaw.cli import parser
from bylaw.commands.admin import DEFAULT
from sidecar.settings import Settings
from store.environment import VARIABLES

DEPLOY: Final = Path(__file__).parents[1] / "deploy"
COMPOSE: Final = DEPLOY / "compose" / "compose.yaml"
KUBERNETES: Final = DEPLOY / "kubernetes"
OURS: Final = "bylaw:latest"


def _compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


def _manifests() -> list[dict[str, Any]]:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    texts = [(KUBERNETES / name).read_text(encoding="utf-8") for name in listed]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def _containers() -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """Give image, environment and arguments of every container of ours, in both ways of deploying."""
    for service in _compose().values():
        if service["image"] == OURS:
            yield service["image"], service["environment"], service["command"]
    for manifest in _manifests():
        spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
        for container in spec.get("containers", ()):
            said = {each["name"]: each.get("value", "from a secret") for each in container["env"]}
            yield container["image"], said, container["args"]


CONTAINERS: Final = list(_containers())


def test_both_ways_have_containers() -> None:
    """The services and their migration are deployed by compose and in Kubernetes."""
    of_compose = [["migrate", "up"], ["serve"], ["admin"]]
    of_kubernetes = [["serve"], ["admin"], ["migrate", "up"]]

    assert [arguments for _, _, arguments in CONTAINERS] == of_compose + of_kubernetes


@pytest.mark.parametrize(("image", "environment", "arguments"), CONTAINERS)
def test_a_container_starts(image: str, environment: dict[str, str], arguments: list[str]) -> None:
    """Its command is one of the product's, and it is told nothing that nobody reads."""
    assert image == OURS
    parser().parse_args(arguments)
    assert {name for name in environment if name.startswith("BYLAW_")} <= VARIABLES
    if arguments in (["serve"], ["admin"]):
        Settings.read(
            environment | {"BYLAW_DATABASE_URL": "sqlite+aiosqlite:///x.db", "BYLAW_REDIS_URL": "redis://r/0"}
        )


def test_images_are_pinned() -> None:
    """Whatever is not built here has a version."""
    images = {service["image"] for service in _compose().values()} - {OURS}

    assert images
    assert all(":" in image and not image.endswith(":latest") for image in images)


def test_files_of_compose_are_there() -> None:
    """What is mounted lies in the repository."""
    for service in _compose().values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert not source.startswith(".") or (COMPOSE.parent / source).exists(), source
    assert (COMPOSE.parent / _compose()["sidecar"]["build"]["context"] / "Dockerfile").resolve().is_file()


def test_the_sidecar_shares_a_network_with_who_asks_it() -> None:
    """It listens on the loopback address, so Envoy and the application are in the same network namespace."""
    services = _compose()

    assert services["sidecar"]["network_mode"] == services["application"]["network_mode"] == "service:envoy"
    assert "BYLAW_HTTP" not in services["sidecar"]["environment"]


def _named(kind: str, name: str) -> dict[str, Any]:
    return next(each for each in _manifests() if each["kind"] == kind and each["metadata"]["name"] == name)


def test_selectors_find_their_pods() -> None:
    """Service, budget and network policy are of the pods that the deployment makes."""
    labels = _named("Deployment", "bylaw")["spec"]["template"]["metadata"]["labels"]

    assert _named("Service", "bylaw")["spec"]["selector"] == labels
    assert _named("PodDisruptionBudget", "bylaw")["spec"]["selector"]["matchLabels"] == labels
    assert _named("NetworkPolicy", "bylaw")["spec"]["podSelector"]["matchLabels"] == labels
    job = _named("Job", "bylaw-migrate")["spec"]["template"]["metadata"]["labels"]
    assert _named("NetworkPolicy", "bylaw-migrate")["spec"]["podSelector"]["matchLabels"] == job


def test_probes_and_ports() -> None:
    """Probes ask paths that are open to anybody, at a port that the container has and the service listens on."""
    container = _named("Deployment", "bylaw")["spec"]["template"]["spec"]["containers"][0]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    said = {each["name"]: each.get("value", "") for each in container["env"]}

    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    assert said["BYLAW_HTTP"] == f"0.0.0.0:{ports['http']}"
    assert said["BYLAW_GRPC"] == f"0.0.0.0:{ports['grpc']}"
    assert said["BYLAW_CALLERS"] != "loopback"
    service = _named("Service", "bylaw")["spec"]["ports"]
    assert {each["name"]: each["port"] for each in service} == ports


def test_administration_is_reached_by_nobody_outside() -> None:
    """It listens on its own loopback address, no port leads there, and it shares no network with the application."""
    service = _compose()["administration"]
    pod = _named("Deployment", "bylaw-administration")["spec"]["template"]
    container = pod["spec"]["containers"][0]
    policy = _named("NetworkPolicy", "bylaw-administration")["spec"]

    assert not {"ports", "network_mode"} & set(service)
    assert "ports" not in container
    assert "BYLAW_ADMIN" not in {*service["environment"], *(each["name"] for each in container["env"])}
    for probe in ("livenessProbe", "readinessProbe"):
        assert f"http://{DEFAULT}/" in container[probe]["exec"]["command"][-1]
    assert policy["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert "Ingress" in policy["policyTypes"]
    assert "ingress" not in policy


def test_administration_is_scraped_where_it_listens() -> None:
    """Prometheus asks for its metrics at the address where it listens if nothing else is said."""
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "scrape.yml").read_text(encoding="utf-8"))["scrape_configs"]

    (job,) = (each for each in scraped if each["job_name"] == "bylaw-administration")
    assert job["static_configs"] == [{"targets": [DEFAULT]}]


def test_pods_have_no_more_than_they_need() -> None:
    """No root, no capabilities, no token of the cluster, a root file system that cannot be written."""
    for kind, name in (("Deployment", "bylaw"), ("Deployment", "bylaw-administration"), ("Job", "bylaw-migrate")):
        spec = _named(kind, name)["spec"]["template"]["spec"]

        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
