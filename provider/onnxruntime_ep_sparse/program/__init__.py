"""A lowered region as plain data: its steps, packed weights, bytes of compiled models and their verification.

This is all that the two sides of the compiler share: `ops` and `passes` make it, `runtime` runs it.
It imports `graph`, `reasons`, `framed` and the kernels only.
"""
