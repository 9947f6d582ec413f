"""Messages of the provider at ONNX Runtime's levels, through the logger that it gives to the provider.

That is the session's logger, or the default one for sessions whose providers are named in Python's argument `providers`.
Where ORT_SPARSE_LOG asks for more than that logger shows, they go to stderr in the same form. Nothing is said while a session ends:
before ONNX Runtime 1.26 its logger may be gone by then.
"""

from ._abi cimport LOGGER_GET_SEVERITY_LEVEL, LOGGER_LOG_MESSAGE, Api, get_number_t, log_message_t
from ._graph_reader cimport raised

import sys
from datetime import datetime

from .log_level import AS_SESSION, LETTERS, chosen_level
from ..options import EP_NAME


cdef int level_of(const Api* api, const void* logger) except -1:
    """Return the lowest level that the session's logger shows."""
    cdef int level = 0
    raised(api, (<get_number_t>api.slots[LOGGER_GET_SEVERITY_LEVEL])(logger, &level))
    return level


cdef bint is_shown(const Api* api, const void* logger, int severity) except -1:
    """Return whether a message of this level is shown, so that it is worth making."""
    chosen = chosen_level()
    return severity >= (level_of(api, logger) if chosen == AS_SESSION else chosen)


cdef object say(const Api* api, const void* logger, int severity, str text):
    """Show a message, if its level is shown."""
    if not is_shown(api, logger, severity):
        return
    line = f"{EP_NAME}: {' '.join(text.split())}"
    if severity >= level_of(api, logger):
        raised(api, (<log_message_t>api.slots[LOGGER_LOG_MESSAGE])(
            logger, severity, line.encode("utf-8", "replace"), b"onnxruntime_ep_sparse", 0, b"say"))
    elif sys.stderr is not None:
        print(f"{datetime.now()} [{LETTERS[severity]}:onnxruntime_ep_sparse] {line}", file=sys.stderr)
