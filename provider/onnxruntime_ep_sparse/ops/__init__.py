"""The operators: one row each, with when a node can be run and how it becomes steps.

Whether a node is worth taking is the question of `partition`.
It imports `program` and what stands below.
"""
