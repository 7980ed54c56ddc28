"""A daemon that is started as the manifests for Kubernetes say, and what Prometheus is asked."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sinapse.settings import OPTIONS
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end, free_port, running_redis
from tests.support.browser import program
from tests.support.daemon import Daemon, Stream, twistd
from tests.support.kubernetes import (
    MANIFESTS,
    Manifest,
    container,
    everything,
    pod,
    the,
    variables,
)

__all__ = ["container", "everything", "pod", "variables"]

# Packages of npm are downloaded first.
pytestmark = pytest.mark.timeout(300)

#: What a container may not do whose root is read-only: write to a file. Its log goes to a pipe.
READ_ONLY = ("bash", "-c", 'exec > >(exec cat) 2>&1; ulimit -f 0; exec "$@"', "bash")


@contextmanager
def running_pod(
    folder: Path, variables: Mapping[str, str], url: str, path: str
) -> Iterator[tuple[Daemon, int]]:
    """Run what the image runs, on free ports, until `path` answers; gives the admin port too."""
    # As the build of the image does: Twisted writes down which plugins there are.
    twistd("sinapse", "--version", cwd=folder)
    daemon = Daemon(folder, url)
    admin = free_port()
    daemon.command = [*READ_ONLY, PYTHON, "-m", "sinapse", "serve"]
    daemon.environment = {
        **{name: daemon.environment[name] for name in ("PATH", "PYTHONPATH")},
        "HOME": "/nowhere",
        "TMPDIR": "/nowhere",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
        "REDIS_URL": url,
        "SINAPSE_PORT": f"tcp:{daemon.port}:interface=127.0.0.1",
        "SINAPSE_ADMIN": f"tcp:{admin}:interface=127.0.0.1",
    }
    try:
        daemon.start(ready=path == "/ready")
        yield daemon, admin
    finally:
        if daemon.process is not None:
            end(daemon.process)


def status(daemon: Daemon, container: Manifest, probe: str) -> int:
    """Ask what a probe asks."""
    asked = container[probe]["httpGet"]
    assert asked["port"] == "http"
    return daemon.get(asked["path"]).status


class TestDaemon:
    """A daemon with the variables of the Deployment."""

    def test_what_is_forbidden_here_cannot_be_done(self, tmp_path: Path) -> None:
        write = [PYTHON, "-c", "import pathlib; pathlib.Path('file').write_text('text')"]
        ended = subprocess.run([*READ_ONLY, *write], cwd=tmp_path, capture_output=True, check=False)
        assert b"File too large" in ended.stdout

    def test_it_takes_the_variables_answers_the_probes_and_writes_nothing(
        self,
        redis_server: RedisServer,
        tmp_path: Path,
        container: Manifest,
        variables: dict[str, str],
    ) -> None:
        assert set(variables) <= {option.variable for option in OPTIONS}
        with running_pod(tmp_path, variables, redis_server.url, "/ready") as (daemon, _):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert status(daemon, container, probe) == 200
            daemon.stop()
            assert "starting up" in daemon.log
            assert "cache" not in daemon.log
            assert "Traceback" not in daemon.log
        assert [path.name for path in tmp_path.iterdir()] == ["daemon-1.log"]

    def test_without_redis_it_lives_and_serves_but_a_rollout_stops(
        self, tmp_path: Path, container: Manifest, variables: dict[str, str]
    ) -> None:
        with running_redis(tmp_path) as server:
            nowhere = server.url
        with running_pod(tmp_path, variables, nowhere, "/status") as (daemon, _):
            assert status(daemon, container, "startupProbe") == 503
            assert status(daemon, container, "readinessProbe") == 200
            assert status(daemon, container, "livenessProbe") == 200
            # The answer is worth it: an EventSource comes back.
            with daemon.stream("token") as stream:
                assert stream.status == 200
                assert b"retry:" in stream.block()

    def test_prometheus_gets_what_the_autoscaler_needs(
        self,
        redis_server: RedisServer,
        tmp_path: Path,
        everything: list[Manifest],
        variables: dict[str, str],
    ) -> None:
        (endpoint,) = the("ServiceMonitor", everything)["spec"]["endpoints"]
        with (
            running_pod(tmp_path, variables, redis_server.url, "/ready") as (_, admin),
            # By the address of the pod, as Prometheus asks.
            Stream(admin, endpoint["path"], {"Host": "10.0.0.12:9001"}) as answer,
        ):
            assert answer.status == 200
            text = answer.response.read().decode()
        exposed = {
            sample.name
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        served = {}
        for rule in adapter_rules():
            series = re.match(r"\w+", rule["seriesQuery"])
            assert series
            assert series[0] in exposed
            served[rule.get("name", {}).get("as", series[0])] = rule
        scaler = the("HorizontalPodAutoscaler", everything)["spec"]
        asked = [each["pods"]["metric"]["name"] for each in scaler["metrics"] if "pods" in each]
        assert sorted(asked) == sorted(served)


def adapter_rules() -> list[dict[str, Any]]:
    """Return the rules for prometheus-adapter."""
    path = MANIFESTS / "components" / "autoscaling" / "prometheus-adapter.yaml"
    rules: list[dict[str, Any]] = yaml.safe_load(path.read_text())["rules"]["custom"]
    return rules


def test_the_adapter_asks_prometheus_for_one_figure_of_each_pod(tmp_path: Path) -> None:
    """Its templates are filled in as its documentation says."""
    queries = []
    for rule in adapter_rules():
        series = rule["seriesQuery"].partition("{")[0]
        query = rule["metricsQuery"].replace("<<.Series>>", series)
        query = query.replace("<<.LabelMatchers>>", 'namespace="push",pod=~"a|b"')
        queries.append(query.replace("<<.GroupBy>>", "pod"))
    of_streams, of_lag = queries
    lag = 'sinapse_loop_lag_seconds_bucket{namespace="push",pod="a",le="%s"}'
    streams = 'sinapse_streams{namespace="%s",pod="%s",transport="%s"}'
    given = {
        streams % ("push", "a", "event stream"): "4x10",
        streams % ("push", "a", "websocket"): "3x10",
        streams % ("push", "b", "long poll"): "5x10",
        streams % ("other", "a", "websocket"): "9x10",
        lag % "0.5": "0+98x10",
        lag % "1.0": "0+100x10",
        lag % "+Inf": "0+100x10",
    }
    expected: dict[str, list[tuple[str, float]]] = {
        of_streams: [('{pod="a"}', 7), ('{pod="b"}', 5)],
        f"round({of_lag}, 0.01)": [('{pod="a"}', 0.75)],
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": "10m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
            }
            for query, samples in expected.items()
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"tests": [test]}))
    ended = subprocess.run(
        [program("promtool"), "test", "rules", "test.yml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
