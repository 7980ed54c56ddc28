"""The manifests for Kubernetes: each field is known, and what one says of another is so."""

from __future__ import annotations

import os
import re
from pathlib import Path

import kubernetes_validate
import pytest

from sinapse.settings import OPTIONS
from tests.support.daemon import ROOT
from tests.support.kubernetes import (
    COMPONENTS,
    MANIFESTS,
    Manifest,
    container,
    everything,
    kustomized,
    pod,
    the,
    validate,
    validate_custom,
    variables,
    with_components,
)

__all__ = ["container", "everything", "pod", "variables"]

# Packages of npm are downloaded first.
pytestmark = pytest.mark.timeout(300)

#: The first version whose pods can sleep before they stop, and the last that is known here.
VERSIONS = ("1.30", kubernetes_validate.latest_version())

#: A pod of ours.
LABELS = {"app.kubernetes.io/name": "sinapse"}

#: By variable.
DEFAULTS = {option.variable: option.default for option in OPTIONS}

PAGE = (ROOT / "docs" / "howto-kubernetes.md").read_text()


@pytest.fixture(scope="module")
def ports(container: Manifest) -> dict[str, int]:
    """The ports of a pod by their names."""
    return {each["name"]: each["containerPort"] for each in container["ports"]}


class TestSchemas:
    """Kubernetes, and who has made a custom resource, know every field."""

    @pytest.mark.parametrize("component", [None, *COMPONENTS])
    def test_each_component_can_be_taken_by_itself(
        self, component: str | None, tmp_path: Path
    ) -> None:
        manifests = with_components(tmp_path, *filter(None, [component]))
        for version in VERSIONS:
            validate(manifests, version)

    def test_custom_resources_are_as_their_projects_have_them(
        self, everything: list[Manifest], tmp_path: Path
    ) -> None:
        validate_custom(everything, tmp_path)

    def test_what_is_misspelt_would_be_found(
        self, everything: list[Manifest], tmp_path: Path
    ) -> None:
        deployment = the("Deployment", everything)
        with pytest.raises(kubernetes_validate.ValidationError, match="sleep"):
            validate([deployment], "1.28")
        route = the("HTTPRoute", everything)
        (rule,) = route["spec"]["rules"]
        mistakes: list[Manifest] = [{"timeout": {}}, {"timeouts": {"request": "for ever"}}]
        for number, other in enumerate(mistakes):
            (tmp_path / str(number)).mkdir()
            spec = {**route["spec"], "rules": [{**rule, **other}]}
            with pytest.raises(AssertionError, match="timeout"):
                validate_custom([{**route, "spec": spec}], tmp_path / str(number))

    def test_the_overlay_of_the_page_is_built(self, tmp_path: Path) -> None:
        (shown,) = re.findall(r"(?ms)^```yaml\n(# kustomization\.yaml\n.*?)^```", PAGE)
        shown = shown.replace("../sinapse", os.path.relpath(ROOT, tmp_path))
        (tmp_path / "kustomization.yaml").write_text(shown)
        (secret,) = re.findall(r"(?m)^    (REDIS_URL=.*)$", PAGE)
        (tmp_path / "redis.env").write_text(secret + "\n")
        manifests = kustomized(tmp_path)
        for version in VERSIONS:
            validate(manifests, version)
        (tmp_path / "custom").mkdir()
        validate_custom(manifests, tmp_path / "custom")
        (made,) = (each for each in manifests if each["kind"] == "Secret")
        (container,) = the("Deployment", manifests)["spec"]["template"]["spec"]["containers"]
        variables = {each["name"]: each for each in container["env"]}
        # With another secret, pods are new.
        reference = variables["REDIS_URL"]["valueFrom"]["secretKeyRef"]
        assert reference["name"] == made["metadata"]["name"] != "sinapse-redis"
        assert reference["key"] in made["data"]
        assert variables["SINAPSE_CORS_ORIGIN"]["value"] != "*"
        assert set(variables) <= set(DEFAULTS)
        assert container["image"] != "sinapse"
        assert {each["metadata"]["namespace"] for each in manifests} == {"push"}

    def test_redis_may_have_another_port_as_the_page_says(self, tmp_path: Path) -> None:
        (shown,) = re.findall(
            r"(?ms)^```yaml\n(  - target:\n      kind: NetworkPolicy\n.*?)^```", PAGE
        )
        way = os.path.relpath(MANIFESTS, tmp_path)
        overlay = (
            f"resources: [{way}/base]\ncomponents: [{way}/components/monitoring]\npatches:\n{shown}"
        )
        (tmp_path / "kustomization.yaml").write_text(overlay)
        manifests = kustomized(tmp_path)
        names, redis = the("NetworkPolicy", manifests)["spec"]["egress"]
        assert {each["port"] for each in names["ports"]} == {53}
        assert redis == {"ports": [{"port": 6380}]}
        # It is for the daemon's policy alone.
        assert "egress" not in the("NetworkPolicy", manifests, "sinapse-admin")["spec"]


class TestReferences:
    """What one manifest says of another is so."""

    def test_everything_is_about_the_same_pods(
        self, everything: list[Manifest], pod: Manifest
    ) -> None:
        template = the("Deployment", everything)["spec"]["template"]
        assert template["metadata"]["labels"] == LABELS
        selected = [
            the("Deployment", everything)["spec"]["selector"]["matchLabels"],
            the("PodDisruptionBudget", everything)["spec"]["selector"]["matchLabels"],
            *(each["labelSelector"]["matchLabels"] for each in pod["topologySpreadConstraints"]),
        ]
        for each in everything:
            if each["kind"] == "Service":
                selected.append(each["spec"]["selector"])
            elif each["kind"] == "NetworkPolicy":
                selected.append(each["spec"]["podSelector"]["matchLabels"])
        assert len(selected) == 8
        assert all(each == LABELS for each in selected)

    def test_each_port_that_is_named_is_one_of_the_daemon(
        self, everything: list[Manifest], ports: dict[str, int], variables: dict[str, str]
    ) -> None:
        assert f"tcp:{ports['http']}" == DEFAULTS["SINAPSE_PORT"]
        assert f"tcp:{ports['admin']}" == variables["SINAPSE_ADMIN"]
        for name, port in (("sinapse", "http"), ("sinapse-admin", "admin")):
            # A port that is let through, and has a Service, and no other.
            (rule,) = the("NetworkPolicy", everything, name)["spec"]["ingress"]
            assert rule["ports"] == [{"port": port}]
            (served,) = the("Service", everything, name)["spec"]["ports"]
            assert served == {"name": port, "port": ports[port], "targetPort": port}
        (rule,) = the("NetworkPolicy", everything, "sinapse-admin")["spec"]["ingress"]
        assert rule["from"]

    def test_browsers_are_led_to_the_streams_and_nowhere_else(
        self, everything: list[Manifest], ports: dict[str, int]
    ) -> None:
        (rule,) = the("Ingress", everything)["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": "sinapse", "port": {"name": "http"}}
        (route,) = the("IngressRoute", everything)["spec"]["routes"]
        (service,) = route["services"]
        assert (service["name"], service["port"]) == ("sinapse", "http")
        assert the("ServersTransport", everything, service["serversTransport"])
        (rule,) = the("HTTPRoute", everything)["spec"]["rules"]
        assert rule["backendRefs"] == [{"name": "sinapse", "port": ports["http"]}]

    def test_prometheus_finds_the_pods_and_calls_them_as_alerts_do(
        self, everything: list[Manifest]
    ) -> None:
        monitor = the("ServiceMonitor", everything)["spec"]
        wanted = monitor["selector"]["matchLabels"].items()
        (service,) = (
            each
            for each in everything
            if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
        )
        (endpoint,) = monitor["endpoints"]
        assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
        job = service["metadata"]["labels"][monitor["jobLabel"]]
        assert f'job="{job}"' in (ROOT / "contrib" / "monitoring" / "alerts.yml").read_text()

    def test_the_autoscaler_says_how_many(self, everything: list[Manifest]) -> None:
        scaler = the("HorizontalPodAutoscaler", everything)["spec"]
        target = the(scaler["scaleTargetRef"]["kind"], everything, scaler["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"]
        # One may go, as machines are emptied, and one is left.
        budget = the("PodDisruptionBudget", everything)["spec"]
        assert scaler["minReplicas"] > budget["maxUnavailable"]

    def test_commands_of_the_page_are_for_the_namespace_of_its_overlay(self) -> None:
        commands = re.findall(r"kubectl ((?!create |get --raw |apply -k |apply`)[^`\n]+)", PAGE)
        assert [each for each in commands if not each.startswith("-n push ")] == []
        assert len(commands) >= 2


class TestLimits:
    """What is bounded here, and in the daemon."""

    def test_nobody_kills_a_pod_that_drains(self, pod: Manifest, container: Manifest) -> None:
        """As the page on operations says: the drain and five seconds."""
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = float(DEFAULTS["SINAPSE_DRAIN"])
        assert pod["terminationGracePeriodSeconds"] >= sleep + drain + 5

    def test_the_next_pod_of_a_rollout_ends_when_this_one_has(
        self, everything: list[Manifest], container: Manifest
    ) -> None:
        spec = the("Deployment", everything)["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["minReadySeconds"] >= sleep + float(DEFAULTS["SINAPSE_DRAIN"])

    def test_a_pod_may_do_no_more_than_it_has_to(self, pod: Manifest, container: Manifest) -> None:
        image = (ROOT / "contrib" / "container" / "Containerfile").read_text()
        user = pod["securityContext"]
        assert f"\nUSER {user['runAsUser']}:{user['runAsGroup']}\n" in image
        assert user["runAsNonRoot"]
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not pod["automountServiceAccountToken"]
        assert not pod["enableServiceLinks"]

    def test_slow_clients_may_have_a_quarter_of_the_memory(
        self, container: Manifest, variables: dict[str, str]
    ) -> None:
        assert container["resources"]["limits"] == {"memory": "1Gi"}
        assert int(variables["SINAPSE_MAX_PENDING_TOTAL"]) == 1024**3 / 4

    def test_proxies_wait_longer_for_a_stream_than_it_is_silent(
        self, everything: list[Manifest]
    ) -> None:
        notes = the("Ingress", everything)["metadata"]["annotations"]
        timeout = int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"])
        assert timeout > 2 * int(DEFAULTS["SINAPSE_KEEP_ALIVE"])
        (rule,) = the("HTTPRoute", everything)["spec"]["rules"]
        assert rule["timeouts"] == {"request": "0s"}

    def test_proxies_keep_idle_connections_for_less_than_the_daemon(
        self, everything: list[Manifest]
    ) -> None:
        timeouts = the("ServersTransport", everything)["spec"]["forwardingTimeouts"]
        for idle in (timeouts["idleConnTimeout"], *re.findall(r"IdleTimeout: (\d+s)", PAGE)):
            assert int(idle.removesuffix("s")) < int(DEFAULTS["SINAPSE_IDLE_TIMEOUT"])

    def test_the_url_of_redis_is_in_no_manifest(self, container: Manifest) -> None:
        (url,) = (each for each in container["env"] if each["name"] == "REDIS_URL")
        assert url["valueFrom"]["secretKeyRef"]["name"] == "sinapse-redis"
        for path in MANIFESTS.rglob("*.yaml"):
            assert not re.search(r"(redis|rediss|unix)[\w+]*://", path.read_text()), path
