"""Callers in C: sessions and runs through ONNX Runtime's C API, so that no caller waits for Python's lock.

Eight Python threads mostly hand that lock to each other when a call takes a few microseconds; what the latencies then show is the lock.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import onnxruntime_ep_sparse as sparse

SOURCE = r"""
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

typedef void *(*Run)(void *session, const void *options, const char *const *names, const void *const *inputs, size_t n_inputs,
                     const char *const *out_names, size_t n_outputs, void **outputs);
typedef void (*Release)(void *value);

typedef struct {
    Run run;
    Release release;
    void *session;
    const char *const *names;
    size_t n_inputs;
    const void *const *inputs;      /* [feeds][n_inputs] */
    size_t feeds, first;
    const char *const *out_names;
    size_t n_outputs;
    double seconds;
    double *latencies;
    size_t room, count;
    int failed;
} Caller;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *call(void *data) {
    Caller *c = data;
    void *outputs[64];
    double began = now(), until = began + c->seconds, ended;
    size_t i, k;
    for (i = c->first; (began < until || i == c->first) && c->count < c->room; i++) {
        for (k = 0; k < c->n_outputs; k++) outputs[k] = NULL;
        if (c->run(c->session, NULL, c->names, c->inputs + i % c->feeds * c->n_inputs, c->n_inputs, c->out_names, c->n_outputs, outputs)) {
            c->failed = 1;
            break;
        }
        ended = now();
        for (k = 0; k < c->n_outputs; k++) c->release(outputs[k]);
        c->latencies[c->count++] = ended - began;
        began = ended;
    }
    return NULL;
}

int call_all(Caller *callers, int n) {
    pthread_t *threads = malloc(n * sizeof(pthread_t));
    int i, failed = 0;
    if (n == 1) call(callers);
    for (i = 0; n > 1 && i < n; i++) failed |= pthread_create(&threads[i], NULL, call, &callers[i]);
    for (i = 0; n > 1 && i < n; i++) pthread_join(threads[i], NULL);
    for (i = 0; i < n; i++) failed |= callers[i].failed;
    free(threads);
    return failed;
}
"""
ROOM = 200_000
"""Latencies that a caller can write in one block."""
FLOAT, INT32, INT64 = 1, 6, 7
TYPES = {"float32": FLOAT, "int32": INT32, "int64": INT64}
CREATE_ENV, MESSAGE, FROM_ARRAY, RUN, CREATE_OPTIONS, INTRA_THREADS, TENSOR, MEMORY_INFO = 3, 2, 8, 9, 10, 24, 49, 69
RELEASE_VALUE, GLOBAL_POOL, CONFIG, DEVICES, APPEND, EP_NAME, REGISTER, CREATE_ENV_WITH_POOL, CREATE_POOL_OPTIONS = (
    96,
    120,
    130,
    303,
    304,
    312,
    301,
    119,
    121,
)
"""Slots of OrtApi."""


class Caller(ctypes.Structure):
    """The structure of that name in C."""

    _fields_ = (
        ("run", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("session", ctypes.c_void_p),
        ("names", ctypes.c_void_p),
        ("n_inputs", ctypes.c_size_t),
        ("inputs", ctypes.c_void_p),
        ("feeds", ctypes.c_size_t),
        ("first", ctypes.c_size_t),
        ("out_names", ctypes.c_void_p),
        ("n_outputs", ctypes.c_size_t),
        ("seconds", ctypes.c_double),
        ("latencies", ctypes.c_void_p),
        ("room", ctypes.c_size_t),
        ("count", ctypes.c_size_t),
        ("failed", ctypes.c_int),
    )


class Api:
    """ONNX Runtime's C API, with an environment of its own and our library registered in it, and the compiled callers.

    The shared library of the wheel is another copy of ONNX Runtime than the one in its Python module. With `shared_pool` the environment
    has the threads.
    """

    def __init__(self, shared_pool: bool = False) -> None:
        library = ctypes.CDLL(str(next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))))
        library.OrtGetApiBase.restype = ctypes.POINTER(ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32))
        version = int(onnxruntime.__version__.split(".")[1])
        self.slots = ctypes.cast(library.OrtGetApiBase()[0](version), ctypes.POINTER(ctypes.c_void_p))
        if shared_pool:
            self.environment = self.made(CREATE_ENV_WITH_POOL, 3, b"callers", ctypes.c_void_p(self.made(CREATE_POOL_OPTIONS)))
        else:
            self.environment = self.made(CREATE_ENV, 3, b"callers")
        self.call(REGISTER, ctypes.c_void_p(self.environment), b"sparse", sparse.get_library_path().encode())
        self.memory = self.made(MEMORY_INFO, 1, 0)
        with tempfile.TemporaryDirectory() as folder:
            source, module = Path(folder, "callers.c"), Path(folder, "callers.so")
            source.write_text(SOURCE)
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-pthread", str(source), "-o", str(module)], check=True)
            self.call_all = ctypes.CDLL(str(module)).call_all

    def call(self, slot: int, *arguments: object) -> None:
        """Call a function that returns a status; RuntimeError with its message."""
        status = ctypes.CFUNCTYPE(ctypes.c_void_p, *(kind_of(argument) for argument in arguments))(self.slots[slot])(*arguments)
        if status:
            raise RuntimeError(ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(self.slots[MESSAGE])(status).decode())

    def made(self, slot: int, *arguments: object) -> int:
        """What such a function creates."""
        made = ctypes.c_void_p()
        self.call(slot, *arguments, ctypes.byref(made))
        assert made.value
        return made.value

    def session(self, model: bytes, threads: int, entries: Mapping[str, str], shared_pool: bool, provider: str | None) -> int:
        """Create a session; `provider` names one whose library is registered, with the CPU provider behind it."""
        options = ctypes.c_void_p(self.made(CREATE_OPTIONS))
        self.call(INTRA_THREADS, options, threads)
        if shared_pool:
            self.call(GLOBAL_POOL, options)
        for key, value in entries.items():
            self.call(CONFIG, options, key.encode(), value.encode())
        if provider is not None:
            devices, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_size_t()
            self.call(DEVICES, ctypes.c_void_p(self.environment), ctypes.byref(devices), ctypes.byref(count))
            name_of = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(self.slots[EP_NAME])
            chosen = (ctypes.c_void_p * 1)(next(devices[i] for i in range(count.value) if name_of(devices[i]) == provider.encode()))
            nothing = ctypes.c_void_p()
            self.call(APPEND, options, ctypes.c_void_p(self.environment), chosen, ctypes.c_size_t(1), nothing, nothing, ctypes.c_size_t(0))
        return self.made(FROM_ARRAY, ctypes.c_void_p(self.environment), model, ctypes.c_size_t(len(model)), options)

    def tensor(self, array: NDArray) -> int:
        """Create a tensor that shows the memory of an array, which must live on."""
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        data, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        return self.made(TENSOR, ctypes.c_void_p(self.memory), data, size, shape, ctypes.c_size_t(array.ndim), TYPES[array.dtype.name])


def kind_of(argument: object) -> type:
    """The C type of an argument."""
    if isinstance(argument, int):
        return ctypes.c_int
    if isinstance(argument, ctypes.c_size_t):
        return ctypes.c_size_t
    return ctypes.c_char_p if isinstance(argument, bytes) else ctypes.c_void_p


class Load:
    """Callers of some sessions with some feeds: dictionaries of arrays by the names of inputs."""

    def __init__(self, api: Api, sessions: Sequence[int], feeds: Sequence[Mapping[str, NDArray]], outputs: Sequence[str]) -> None:
        self.api, self.sessions, self.feeds, self.outputs = api, sessions, feeds, outputs
        self.names = (ctypes.c_char_p * len(feeds[0]))(*(name.encode() for name in feeds[0]))
        self.out_names = (ctypes.c_char_p * len(outputs))(*(name.encode() for name in outputs))
        values = [api.tensor(feed[name]) for feed in feeds for name in feeds[0]]
        self.inputs = (ctypes.c_void_p * len(values))(*values)

    def warm_up(self) -> None:
        """Run every session with every feed once."""
        for i in range(len(self.sessions)):
            for first in range(len(self.feeds)):
                self.calls(1, 0.0, i, first)

    def block(self, callers: int, seconds: float) -> NDArray[np.float64]:
        """Latencies in seconds of the calls of all callers, each of which calls a session again and again."""
        return self.calls(callers, seconds, 0, 0)

    def calls(self, callers: int, seconds: float, session: int, feed: int) -> NDArray[np.float64]:
        """The same, beginning with a session and a feed; at least one call."""
        latencies = np.empty((callers, ROOM))
        array = (Caller * callers)()
        for i, caller in enumerate(array):
            caller.run, caller.release = self.api.slots[RUN], self.api.slots[RELEASE_VALUE]
            caller.session = self.sessions[(session + i) % len(self.sessions)]
            caller.names, caller.n_inputs = ctypes.addressof(self.names), len(self.feeds[0])
            caller.inputs, caller.feeds, caller.first = ctypes.addressof(self.inputs), len(self.feeds), feed + i
            caller.out_names, caller.n_outputs = ctypes.addressof(self.out_names), len(self.outputs)
            caller.seconds, caller.latencies, caller.room = seconds, latencies[i].ctypes.data, ROOM
        if self.api.call_all(array, callers):
            raise RuntimeError("a run failed")
        return np.concatenate([latencies[i, : caller.count] for i, caller in enumerate(array)])
