"""Measurements of speed, memory and agreement: one protocol for the command line, benchmarks and tests.

It creates sessions of both providers and compares them.
It must not import `models` or `cli`.
"""

from .agreement import TOLERANCE, Agreement, agree
from .memory import memory_of, resident_mb
from .peak import best_seconds, peak_gflops
from .protocol import CONTROL_TOLERANCE, LEAST_PAIRS, Measurement, Profile, Progress, Side, alternate, measure, profile, ratio
from .sessions import CPU, Feeds, Model, Ownership, create, make_session, ownership
from .statistics import Latency, Ratio, median_interval

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
