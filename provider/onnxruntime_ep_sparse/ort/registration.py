"""Registers the provider with onnxruntime, and creates session options that use it."""

from __future__ import annotations

import importlib.util
import re
import threading
import warnings
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from .. import options as option_table
from ..options import EP_NAME
from .log_level import chosen_level

if TYPE_CHECKING:
    import onnxruntime

OLDEST = (1, 25)
NEWEST_TESTED = (1, 32)

_lock = threading.Lock()


def get_library_path() -> str:
    """Return the absolute path of the plugin library, for `onnxruntime.register_execution_provider_library`."""
    spec = importlib.util.find_spec(f"{__package__}._plugin")
    if spec is None or spec.origin is None:
        raise ImportError("onnxruntime_ep_sparse is not built: its extension module _plugin is missing")
    return spec.origin


def get_ep_name() -> str:
    """Return the name of the execution provider."""
    return EP_NAME


def get_ep_names() -> list[str]:
    """Return the names of all execution providers in the library, which is one."""
    return [EP_NAME]


@cache
def runtime() -> ModuleType:
    """Return the onnxruntime module, and warn once if it is newer than tested. ImportError if it is missing or too old."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ImportError(f"{EP_NAME} needs onnxruntime: pip install 'onnxruntime>=1.25'") from error
    match = re.match(r"(\d+)\.(\d+)", ort.__version__)
    version = tuple(map(int, match.groups())) if match else NEWEST_TESTED
    if version < OLDEST:
        raise ImportError(f"{EP_NAME} needs onnxruntime >= 1.25, this is {ort.__version__}: pip install --upgrade onnxruntime")
    if version > NEWEST_TESTED:
        newest = ".".join(map(str, NEWEST_TESTED))
        warnings.warn(f"{EP_NAME} has been tested with onnxruntime up to {newest}, this is {ort.__version__}", stacklevel=4)
    return ort


def is_registered(ort: ModuleType) -> bool:
    """Return whether the provider is registered with the module onnxruntime."""
    return any(device.ep_name == EP_NAME for device in ort.get_ep_devices())


def register() -> None:
    """Register `SparseExecutionProvider` with onnxruntime, unless it is registered already.

    Sessions that do not name the provider do not change. ImportError if onnxruntime is missing or older than 1.25. ValueError if the
    environment variable ORT_SPARSE_LOG has a value that it cannot have.
    """
    chosen_level()
    with _lock:
        ort = runtime()
        if not is_registered(ort):
            ort.register_execution_provider_library(EP_NAME, get_library_path())


def unregister() -> None:
    """Undo `register()`, if it was called. RuntimeError while a session still has the provider."""
    with _lock:
        ort = runtime()
        if not is_registered(ort):
            return
        from . import _plugin

        live = _plugin.live_sessions()
        if live:
            raise RuntimeError(f"{live} live session(s) still use {EP_NAME}: delete them before unregister()")
        ort.unregister_execution_provider_library(EP_NAME)


def session_options(
    options: Mapping[str, object] | None = None, base: onnxruntime.SessionOptions | None = None
) -> onnxruntime.SessionOptions:
    """Return `SessionOptions` with this provider first, the CPU provider after it, and the operators of compressed models.

    The provider is registered if necessary. ValueError if `options` have an unknown key or an invalid value. All plain attributes of `base`
    are copied: threads, optimisation level, logging, profiling and so on. Its `intra_op_num_threads`, at most the CPUs that the process
    may use, becomes the option `threads`, unless that is given. `base` itself does not change.

    onnxruntime cannot list configuration entries, providers, initializers, free dimensions and custom-op libraries, so these are not
    copied. If `base` has some, call `base.add_provider(EP_NAME, options)` instead, and for compressed models
    `base.register_custom_ops_library(get_library_path())`.
    """
    given = {key: str(value) for key, value in (options or {}).items()}
    if base is not None and base.intra_op_num_threads > 0:
        given.setdefault("threads", str(option_table.expected_threads(base.intra_op_num_threads)))
    option_table.parse(given)
    register()
    ort = runtime()
    result = ort.SessionOptions()
    if base is not None:
        for name, member in vars(ort.SessionOptions).items():
            if isinstance(member, property) and member.fset is not None:
                value = getattr(base, name)
                if value != getattr(result, name):
                    setattr(result, name, value)
    result.register_custom_ops_library(get_library_path())
    result.add_provider(EP_NAME, given)
    result.add_provider("CPUExecutionProvider", {})
    return result
