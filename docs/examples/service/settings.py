"""The settings of the service: flags of the command line, and for each the environment variable SERVICE_<FLAG>."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from onnxruntime_ep_sparse import cpus


@dataclass(frozen=True)
class Settings:
    """What `read` returns. `sizes` are the sizes of open dimensions that the warm-up runs; `options` those of the provider."""

    model: str
    host: str
    port: int
    provider: str
    options: dict[str, str]
    sessions: int
    threads: int
    max_batch: int
    max_wait_ms: float
    max_in_flight: int
    max_body_mb: float
    sizes: dict[str, list[int]]
    allow_unowned: bool
    allow_non_finite: bool
    drain_s: int


def at_least(least: float, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a converter of text to a number that is not smaller."""

    def convert(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = None
        if number is None or not least <= number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number of at least {least:g}")
        return number

    return convert


def switch(text: str) -> bool:
    """Return whether an environment variable turns something on."""
    if text not in ("", "0", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor 1")
    return text == "1"


def option(text: str) -> tuple[str, str]:
    """Split KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE")
    return key, value


def size(text: str) -> tuple[str, list[int]]:
    """Split NAME=64,128."""
    name, values = option(text)
    return name, [at_least(1, int)(value) for value in values.split(",")]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: {message}; --help lists the flags\n")


def read(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; a flag that is missing there is read from the environment. Exits with 2 and one line if one is wrong."""
    parser = Parser(description="Serves an ONNX model over HTTP.", formatter_class=argparse.ArgumentDefaultsHelpFormatter)

    def add(flag: str, kind: Callable[[str], Any], default: Any, text: str, **more: Any) -> None:
        variable = f"SERVICE_{flag.lstrip('-').replace('-', '_').upper()}"
        parser.add_argument(flag, type=kind, default=os.environ.get(variable, default), help=f"{text} [{variable}]", **more)

    def add_list(flag: str, kind: Callable[[str], Any], metavar: str, text: str) -> None:
        variable = f"SERVICE_{flag.lstrip('-').upper()}"
        help_text = f"{text}; can be repeated [{variable}, separated by spaces]"
        parser.add_argument(flag, action="append", metavar=metavar, default=os.environ.get(variable, "").split(), help=help_text)
        lists[flag.lstrip("-")] = kind

    lists: dict[str, Callable[[str], Any]] = {}
    add("model", str, None, "the ONNX file", nargs="?")
    add("--host", str, "127.0.0.1", "address to listen at")
    add("--port", at_least(0, int), 8000, "port to listen at; 0 takes a free one")
    add("--provider", str, "sparse", "sparse, or cpu to compare with", choices=["sparse", "cpu"])
    add_list("--option", option, "KEY=VALUE", "option of the sparse provider")
    add("--sessions", at_least(1, int), cpus.usable(), "sessions that run at the same time")
    add("--threads", at_least(1, int), 1, "threads per session")
    add("--max-batch", at_least(1, int), 8, "most rows that run together")
    add("--max-wait-ms", at_least(0, float), 2.0, "how long a batch waits for more rows")
    add("--max-in-flight", at_least(1, int), 256, "most requests in flight; more are refused with 503")
    add("--max-body-mb", at_least(0, float), 16.0, "most megabytes of a request")
    add_list("--size", size, "NAME=64,128", "sizes of an open dimension that the warm-up runs")
    add("--drain-s", at_least(1, int), 30, "seconds that a shutdown waits for requests in flight")
    for flag, text in (
        ("--allow-unowned", "start even if the provider takes no node"),
        ("--allow-non-finite", "accept NaN and infinity"),
    ):
        add(flag, switch, "0", text, nargs="?", const=True, metavar="1")
    values = vars(parser.parse_args(arguments))
    if values["model"] is None:
        parser.error("no model: give the path of an ONNX file, or SERVICE_MODEL")
    try:
        chosen = {name: dict(map(kind, values.pop(name))) for name, kind in lists.items()}
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return Settings(**values, options=chosen["option"], sizes=chosen["size"])
