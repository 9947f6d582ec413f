"""How speed, memory and agreement are measured: one protocol for the command line, benchmarks and tests.

It makes sessions of both providers and compares them.
It must not import `models` or `cli`.
"""
