"""The kinds of steps, a file per family: the plain data of a kind, and how a step of it is checked, cut and described.

`table.py` is the one list of kinds. The C side of a family is the module of `runtime/` with its name; `runtime/_step_kinds.pyx` lists them.
"""
