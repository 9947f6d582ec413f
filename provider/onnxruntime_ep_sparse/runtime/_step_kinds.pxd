from ._structs cimport StepKindOps

# The functions of a kind of step, by its number in `program/enums.py`; ValueError for other numbers.
cdef const StepKindOps* ops_of(int kind) except NULL
