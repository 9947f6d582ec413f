"""Rewrites of a graph that keep its results: fusion, folding, removal of dead channels.

The same list of passes runs before a graph is judged and before it is lowered.
It imports `ops` and what stands below, never `partition`.
"""
