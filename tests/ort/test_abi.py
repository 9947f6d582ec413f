"""The declared C ABI against the installed runtime."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import onnxruntime
import pytest

import onnxruntime_ep_sparse as sparse
from support.repository import ROOT

DECLARATIONS = ROOT / "provider" / "onnxruntime_ep_sparse" / "ort" / "_abi.pxd"
API_VERSION = 25

CreateStatus = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p)
GetApi = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_uint32)
GetVersionString = ctypes.CFUNCTYPE(ctypes.c_size_t)


class ApiBase(ctypes.Structure):
    _fields_ = (("GetApi", GetApi), ("GetVersionString", GetVersionString))


def slots(table):
    """Name -> number of the slots declared for `table`."""
    block = DECLARATIONS.read_text().split(f"# Slots of {table}.\ncdef enum:\n")[1].split("\n\n")[0]
    return {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", block)}


@pytest.fixture(scope="module")
def base():
    """The installed runtime's OrtApiBase."""
    libraries = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))
    if not libraries:
        pytest.skip("this onnxruntime has no shared library besides its Python module")
    library = ctypes.CDLL(str(libraries[0]))
    library.OrtGetApiBase.restype = ctypes.POINTER(ApiBase)
    return library.OrtGetApiBase().contents


@pytest.fixture(scope="module")
def api(base):
    """Its OrtApi, as an array of addresses."""
    address = base.GetApi(API_VERSION)
    assert address
    return ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))


def test_version(base):
    """The runtime says which version it is and serves ours."""
    assert ctypes.string_at(base.GetVersionString()).decode() == onnxruntime.__version__


def test_tables_never_move(base):
    """One table serves every version, so that old and new slots stand in the same place."""
    assert base.GetApi(API_VERSION) == base.GetApi(1)


@pytest.mark.parametrize(("name", "slot"), slots("OrtApi").items())
def test_slot_is_filled(api, name, slot):
    """The runtime has a function wherever we call one."""
    assert api[slot]


@pytest.mark.parametrize(("name", "slot"), slots("OrtEpApi").items())
def test_provider_slot_is_filled(api, name, slot):
    """The same of the table for providers."""
    get = ctypes.CFUNCTYPE(ctypes.c_void_p)(api[slots("OrtApi")["GET_EP_API"]])
    assert ctypes.cast(get(), ctypes.POINTER(ctypes.c_void_p))[slot]


@pytest.mark.parametrize(("name", "slot"), slots("OrtModelEditorApi").items())
def test_editor_slot_is_filled(api, name, slot):
    """The same of the table that makes nodes."""
    get = ctypes.CFUNCTYPE(ctypes.c_void_p)(api[slots("OrtApi")["GET_MODEL_EDITOR_API"]])
    assert ctypes.cast(get(), ctypes.POINTER(ctypes.c_void_p))[slot]


def test_status_round_trip(api):
    """A status comes back with the code and the message it was made of."""
    number = slots("OrtApi")
    status = CreateStatus(api[number["CREATE_STATUS"]])(9, b"a message")
    assert ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_size_t)(api[number["GET_ERROR_CODE"]])(status) == 9
    assert ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_size_t)(api[number["GET_ERROR_MESSAGE"]])(status) == b"a message"
    ctypes.CFUNCTYPE(None, ctypes.c_size_t)(api[number["RELEASE_STATUS"]])(status)


def test_exported_symbols():
    """The plugin library shows ONNX Runtime and Python what they look for, and nothing else."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm of binutils")
    listing = subprocess.run([nm, "-D", "--defined-only", sparse.get_library_path()], capture_output=True, text=True, check=True).stdout
    exported = {"CreateEpFactories", "ReleaseEpFactory", "RegisterCustomOps", "PyInit__plugin"}
    assert {line.split()[-1] for line in listing.splitlines()} == exported


def test_old_runtime_gets_a_status():
    """A runtime that lacks our API version is told so in a status of its own."""
    said = []

    @CreateStatus
    def create_status(code, message):
        said.append((code, message.decode()))
        return 4711

    table = (ctypes.c_void_p * 1)(ctypes.cast(create_status, ctypes.c_void_p))
    version = ctypes.create_string_buffer(b"1.24.4")
    base = ApiBase(
        GetApi(lambda number: ctypes.addressof(table) if number < API_VERSION else 0),
        GetVersionString(lambda: ctypes.addressof(version)),
    )
    create = ctypes.CDLL(sparse.get_library_path()).CreateEpFactories
    create.restype = ctypes.c_size_t
    factory, count = ctypes.c_void_p(), ctypes.c_size_t(1)
    assert create(b"name", ctypes.byref(base), None, ctypes.byref(factory), ctypes.c_size_t(1), ctypes.byref(count)) == 4711
    assert said == [(1, "onnxruntime-ep-sparse needs onnxruntime >= 1.25, this is 1.24.4")]
    assert count.value == 0
