"""The dashboard, the alert rules and the page on monitoring name what there is, and all of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sinapse.errors import CloseReason
from tests.support import EVENT_TIMEOUT, RedisServer, eventually
from tests.support.daemon import ROOT, Daemon, running_daemon

FOLDER = ROOT / "contrib" / "monitoring"
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
EXPRESSIONS = [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
]

#: What a family of metrics of a kind is made of.
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}


@pytest.fixture(scope="module")
def exposed(redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a node with workers exposes: it has all metrics that a node without them has."""
    folder = tmp_path_factory.mktemp("monitored")
    with running_daemon(folder, redis_process.url, "--workers", "2") as daemon:

        def text() -> str:
            return str(daemon.admin("/metrics").text)  # type: ignore[attr-defined]

        eventually(lambda: "sinapse_loop_lag_seconds_bucket" in text())
        yield text()


@pytest.fixture(scope="module")
def names(exposed: str) -> set[str]:
    """The names of all samples that there can be."""
    return {
        family.name + suffix
        for family in text_string_to_metric_families(exposed)
        for suffix in SUFFIXES[family.type]
    }


def named_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:sinapse|process)_[a-z_]+[a-z]\b", text))


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yml", "alerts_test.yml"])
def test_every_metric_that_is_named_exists(names: set[str], file: str) -> None:
    text = (FOLDER / file).read_text()
    named = named_in("\n".join(EXPRESSIONS) if file == "dashboard.json" else text)
    assert named
    assert named - names == set()


def test_every_metric_is_on_the_dashboard_but_these(names: set[str]) -> None:
    # Of a histogram, the buckets are.
    plotted = {name for name in names if not name.endswith(("_count", "_sum"))}
    left = plotted - named_in("\n".join([*EXPRESSIONS, json.dumps(DASHBOARD["templating"])]))
    assert left == {
        *("process_start_time_seconds", "process_virtual_memory_bytes"),
        *("sinapse_channels", "sinapse_invalid_payloads_total"),
        *("sinapse_streams_behind", "sinapse_worker_silences_total"),
    }


def test_the_page_lists_every_metric_with_its_kind(exposed: str) -> None:
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(exposed)
        if family.name.startswith("sinapse_")
    }
    rows = re.findall(r"^\| `(sinapse_\w+)(?:\{[\w,]+\})?` \| (\w+) \|", PAGE, re.MULTILINE)
    assert dict(rows) == families
    assert len(rows) == len(families)


def test_the_page_has_every_alert(names: set[str]) -> None:
    alerts = re.findall(r"^ +- alert: (\w+)$", (FOLDER / "alerts.yml").read_text(), re.MULTILINE)
    assert re.findall(r"^\| `(Sinapse\w+)` \|", PAGE, re.MULTILINE) == alerts


def test_reasons_that_alerts_look_for_are_reasons() -> None:
    text = (FOLDER / "alerts.yml").read_text()
    for reasons in re.findall(r'streams_closed_total\{reason=~"([^"]+)"\}', text):
        assert set(reasons.split("|")) <= {reason.text for reason in CloseReason}


def test_the_page_lists_why_streams_end() -> None:
    section = PAGE.partition("## Why streams end")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE)
    assert rows == ["reason", *(reason.text for reason in CloseReason)]


def test_panels_have_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert all(panel.get("description") for panel in panels if panel["type"] != "row")


def promtool(*arguments: str, given: str | None = None) -> str:
    """Run the tool of Prometheus, which must find nothing wrong."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("there is no promtool")
    ended = subprocess.run(
        [tool, *arguments],
        cwd=FOLDER,
        input=given,
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_prometheus_takes_the_rules_and_they_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_prometheus_finds_nothing_wrong_with_the_metrics(exposed: str) -> None:
    promtool("check", "metrics", given=exposed)


def test_every_expression_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    # As rules, of which the tool reads the expressions.
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "rules.json"  # JSON is YAML.
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(path))


def test_a_daemon_without_workers_has_the_same_but_for_those(
    redis_server: RedisServer, tmp_path: Path, names: set[str]
) -> None:
    with running_daemon(tmp_path, redis_server.url) as daemon:
        text = str(daemon.admin("/metrics").text)  # type: ignore[attr-defined]
    own = {
        family.name + suffix
        for family in text_string_to_metric_families(text)
        for suffix in SUFFIXES[family.type]
    }
    assert {name for name in names - own if "worker" not in name} == set()
    assert own - names == set()


def test_json_lines_have_the_fields_that_the_page_says(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    table = PAGE.partition("## The log")[2].partition("\n## ")[0]
    fields = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    daemon: Daemon
    options = ("--log-format", "json", "--log-level", "debug")
    with running_daemon(tmp_path, redis_server.url, *options) as daemon:
        daemon.stop()
        lines = [json.loads(line) for line in daemon.log.splitlines()]
    assert {name for line in lines for name in line} - fields == set()
