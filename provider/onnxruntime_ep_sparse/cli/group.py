"""The group of all commands, which turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from ..ort.log_level import chosen_level
from .common import LOG, FailedError, UsageError, close_stdout

LONGEST_MESSAGE = 2000
"""Characters of an error message. Names in models and messages of ONNX Runtime may have a million."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
ParserError: type[Exception] = typer.BadParameter.__mro__[1]  # click's UsageError; newer versions of typer have a click of their own


class Group(TyperGroup):
    """The group of all commands. It prints an expected error as one line, and ends with 1 for a failure and with 2 for wrong use."""

    def make_context(self, *arguments: Any, **rest: Any) -> Any:
        """Read the options before the command."""
        with _in_one_line():
            return super().make_context(*arguments, **rest)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        handlers, level = list(LOG.handlers), LOG.level
        try:
            with _in_one_line():
                _check_log_level()
                return super().invoke(ctx)
        finally:
            LOG.handlers[:] = handlers
            LOG.setLevel(level)


def _check_log_level() -> None:
    """Raise UsageError if ORT_SPARSE_LOG does not name a level."""
    try:
        chosen_level()
    except ValueError as error:
        raise UsageError(str(error)) from None


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Print an expected error as one line, and raise typer.Exit with the exit code. Other errors pass: they are faults of this package."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # a full disk shows here at the latest
    except ParserError as error:
        message, code = _of_parser(error), 2
    except (UsageError, ImportError) as error:
        message, code = str(error), 2
    except FailedError as error:
        message, code = str(error), 1
    except UnicodeError as error:  # ONNX says that names are UTF-8, and ONNX Runtime's Python interface relies on it
        message, code = f"a name in the model, or of a file, is not UTF-8 text: {error}", 2
    except MemoryError as error:
        message, code = f"not enough memory: {error}", 1
    except OSError as error:
        message, code = _of_system(error), 1
    else:
        return
    typer.echo(f"ort-sparse: {_one_line(message)}", err=True)
    raise typer.Exit(code)


def _of_parser(error: Any) -> str:
    """Return the message of wrong arguments. That of no arguments is the help, which passes."""
    message = error.format_message()
    if "\n" in message or error.ctx is None:
        raise error
    return f"{message.rstrip('.')}; see {error.ctx.command_path} --help"


def _of_system(error: OSError) -> str:
    """Return the message of an error of the operating system. Where stdout fails, the rest of the output goes nowhere."""
    if isinstance(error, BrokenPipeError) and _reader_is_gone():
        close_stdout()
        raise typer.Exit(0) from None  # the reader has seen enough, as `head` has
    if error.filename is None and error.errno in DISK_ERRORS:  # files that a command writes report their errors themselves
        close_stdout()
        return f"cannot write to stdout: {error.strerror}"
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else str(error)


def _reader_is_gone() -> bool:
    """Return whether stdout is a pipe that no process reads."""
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), select.POLLOUT)
    return any(events & select.POLLERR for _, events in stdout.poll(0))


def _one_line(message: str) -> str:
    """Return a message without line breaks. Of a long one, the middle is left out."""
    text, half = " ".join(message.split()), LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"
