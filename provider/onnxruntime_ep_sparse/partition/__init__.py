"""Which nodes the provider takes: expected times, regions, and a reason for every node.

It judges the graph; `pipeline.py` lowers what it has chosen.
It imports `passes` and what stands below, never `ort`.
"""
