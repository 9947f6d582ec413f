"""Other execution providers of the machine, to measure beside both: found by name, or by the package of a plugin."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path

from ..files import shown
from ..options import EP_NAME
from ..ort import registration
from ..ort.sessions import CPU

GPUS = {
    *("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider", "ROCMExecutionProvider"),
    *("MIGraphXExecutionProvider", "DmlExecutionProvider", "WebGpuExecutionProvider"),
}
"""Providers of GPUs that are built into ONNX Runtime; plugins tell the kind of their devices."""

LIBRARIES = (".so", ".dll", ".dylib")
"""Ends of the names of plugin libraries."""
_registered: dict[Path, str] = {}
"""Libraries that were registered here, and their providers."""


def find(name: str) -> str:
    """Return the name of a provider that sessions can be given: ONNX Runtime's own, or that of a plugin.

    `name` is a provider, or a plugin, which is registered: the path of its library, or a module as ONNX Runtime's conventions have it, with
    `get_library_path()` and `get_ep_name()`. ValueError, which lists all providers, if there is none; or if a plugin finds no device; or if
    it is one of the two that are measured anyway.
    """
    if name in (EP_NAME, CPU):
        raise ValueError(f"{name} is measured anyway; name another provider")
    known = available()
    if name in known:
        return name
    if Path(name).suffix in LIBRARIES:
        return _of_library(Path(name))
    try:
        module = importlib.import_module(name)
        library, provider = module.get_library_path(), module.get_ep_name()
    except (ImportError, AttributeError, ValueError, TypeError):
        raise ValueError(f"there is no provider {name!r} here; there are {', '.join(known)}") from None
    if provider not in known:
        registration.runtime().register_execution_provider_library(provider, library)
    if provider not in available():
        raise ValueError(f"{provider} supports no device of this machine")
    return provider


def _of_library(path: Path) -> str:
    """Return the provider of a plugin library, which is registered by its file name. ValueError for other files, and without a device."""
    if not path.is_file():
        raise ValueError(f"no such file: {shown(path)}")
    before = available()
    if path not in _registered:
        try:
            registration.runtime().register_execution_provider_library(path.stem, os.fspath(path.resolve()))
        except Exception as error:
            raise ValueError(f"{shown(path)} is not a library of a provider: {' '.join(str(error).split())}") from None
        _registered[path] = next((name for name in available() if name not in before), "")
    if not _registered[path]:
        raise ValueError(f"{shown(path)} supports no device of this machine")
    return _registered[path]


def available() -> list[str]:
    """Return the names of all providers that sessions can be given here."""
    ort = registration.runtime()
    return list(dict.fromkeys([*ort.get_available_providers(), *(device.ep_name for device in ort.get_ep_devices())]))


def kind_of(provider: str) -> str:
    """Return what a provider runs on: cpu, gpu or npu."""
    if provider in GPUS:
        return "gpu"
    devices = registration.runtime().get_ep_devices()
    return next((device.device.type.name.lower() for device in devices if device.ep_name == provider), "cpu")


def price_of(provider: str, prices: Mapping[str, float]) -> float | None:
    """Return the price per hour for a provider, by its own name or its kind; None if there is none."""
    return prices.get(provider, prices.get(kind_of(provider)))
