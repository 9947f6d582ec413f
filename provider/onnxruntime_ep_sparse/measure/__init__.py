"""Measurements of speed, memory and agreement: one protocol for the command line, benchmarks and tests.

It creates sessions of both providers and compares them.
It must not import `prune` or `cli`. `measure.nodes` needs the module onnx, so that it is imported where it is used.
"""

from ..ort.sessions import CPU, Feeds, Model, Ownership, create, make_session, ownership
from ..timing import LEAST_PAIRS, Latency, Ratio, alternate, in_turn, median_interval, ratio
from .agreement import TOLERANCE, Agreement, agree
from .baseline import Baseline, Change
from .bench import Bench, bench
from .memory import memory_of, resident_mb
from .peak import best_seconds, peak_gflops
from .protocol import CONTROL_TOLERANCE, Measurement, Other, Profile, Progress, Rival, Side, measure, profile

__all__ = [
    "CONTROL_TOLERANCE",
    "CPU",
    "LEAST_PAIRS",
    "TOLERANCE",
    "Agreement",
    "Baseline",
    "Bench",
    "Change",
    "Feeds",
    "Latency",
    "Measurement",
    "Model",
    "Other",
    "Ownership",
    "Profile",
    "Progress",
    "Ratio",
    "Rival",
    "Side",
    "agree",
    "alternate",
    "bench",
    "best_seconds",
    "create",
    "in_turn",
    "make_session",
    "measure",
    "median_interval",
    "memory_of",
    "ownership",
    "peak_gflops",
    "profile",
    "ratio",
    "resident_mb",
]
