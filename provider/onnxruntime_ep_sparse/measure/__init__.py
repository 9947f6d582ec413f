"""Measurements of speed, memory and agreement: one protocol for the command line, benchmarks and tests.

It creates sessions of both providers and compares them.
It must not import `models` or `cli`.
"""

from ..ort.sessions import CPU, Feeds, Model, Ownership, create, make_session, ownership
from ..timing import LEAST_PAIRS, Latency, Ratio, alternate, median_interval, ratio
from .agreement import TOLERANCE, Agreement, agree
from .memory import memory_of, resident_mb
from .peak import best_seconds, peak_gflops
from .protocol import CONTROL_TOLERANCE, Measurement, Profile, Progress, Side, measure, profile

__all__ = [
    "CONTROL_TOLERANCE",
    "CPU",
    "LEAST_PAIRS",
    "TOLERANCE",
    "Agreement",
    "Feeds",
    "Latency",
    "Measurement",
    "Model",
    "Ownership",
    "Profile",
    "Progress",
    "Ratio",
    "Side",
    "agree",
    "alternate",
    "best_seconds",
    "create",
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
