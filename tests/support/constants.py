"""Constants of Sinapse that are others in a daemon: a test waits, or publishes, less then."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.support.daemon import ROOT

#: Sets them in each process of a daemon, as soon as a module has been loaded.
_PATCH = """\
import importlib.abc, importlib.machinery, sys
CONSTANTS = {constants!r}
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in CONSTANTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            for key, value in CONSTANTS[name].items():
                assert hasattr(module, key), key
                setattr(module, key, value)
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Finder())
"""


def with_constants(folder: Path, constants: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Return the environment of a daemon in which `constants`, by module and name, are others.

    What Python loads for it is written to a new folder in `folder`.
    """
    patch = folder / "patch"
    patch.mkdir(parents=True)
    (patch / "sitecustomize.py").write_text(_PATCH.format(constants=constants))
    return {"PYTHONPATH": f"{patch}{os.pathsep}{ROOT}"}
