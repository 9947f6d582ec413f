"""The one table of step kinds in C; `program/kinds/table.py` is the one in Python.

Importing this module imports the modules of all families. `runtime/_build.pyx` does, so that no program is there without them.
"""

from ._byte_depthwise cimport byte_depthwise_ops
from ._byte_product cimport byte_product_ops
from ._copies cimport concat_ops, pad_ops, reshape_ops, transpose_ops
from ._convert cimport convert_ops
from ._depthwise cimport depthwise_ops
from ._elementwise cimport activate_ops, binary_ops
from ._enums cimport *
from ._integers cimport accumulate_ops, choose_ops, integers_ops, range_ops
from ._near_channels cimport normalize_near_ops
from ._normalize cimport normalize_groups_ops, normalize_ops, scale_channels_ops
from ._pair_product cimport pair_product_ops
from ._parts cimport expand_ops, part_ops
from ._positions cimport extend_ops, rotate_ops
from ._product cimport product_ops
from ._quantized cimport carry_ops, combine_ops, dynamic_quantize_ops, look_up_ops
from ._recurrent cimport recurrent_ops
from ._reduce cimport reduce_ops, softmax_ops
from ._resample cimport resample_ops
from ._resize cimport resize_ops
from ._shuffle cimport shuffle_ops
from ._structs cimport StepKindOps
from ._take cimport scatter_ops, take_ops
from ._windows cimport pool_ops

cdef StepKindOps step_kinds[N_STEP_KINDS]


cdef int row(int kind, void (*fill)(StepKindOps* ops) noexcept) except -1:
    assert step_kinds[kind].infer == NULL, f"step kind {kind} has two rows"
    fill(&step_kinds[kind])
    return 0


row(STEP_PRODUCT, product_ops)
row(STEP_DEPTHWISE, depthwise_ops)
row(STEP_POOL, pool_ops)
row(STEP_REDUCE, reduce_ops)
row(STEP_ACTIVATE, activate_ops)
row(STEP_BINARY, binary_ops)
row(STEP_RESHAPE, reshape_ops)
row(STEP_CONCAT, concat_ops)
row(STEP_PAD, pad_ops)
row(STEP_SHUFFLE, shuffle_ops)
row(STEP_TRANSPOSE, transpose_ops)
row(STEP_RESIZE, resize_ops)
row(STEP_RESAMPLE, resample_ops)
row(STEP_NORMALIZE, normalize_ops)
row(STEP_NORMALIZE_GROUPS, normalize_groups_ops)
row(STEP_NORMALIZE_NEAR, normalize_near_ops)
row(STEP_SCALE_CHANNELS, scale_channels_ops)
row(STEP_PART, part_ops)
row(STEP_EXPAND, expand_ops)
row(STEP_SOFTMAX, softmax_ops)
row(STEP_RECURRENT, recurrent_ops)
row(STEP_CONVERT, convert_ops)
row(STEP_LOOK_UP, look_up_ops)
row(STEP_COMBINE, combine_ops)
row(STEP_DYNAMIC_QUANTIZE, dynamic_quantize_ops)
row(STEP_CARRY, carry_ops)
row(STEP_BYTE_PRODUCT, byte_product_ops)
row(STEP_PAIR_PRODUCT, pair_product_ops)
row(STEP_BYTE_DEPTHWISE, byte_depthwise_ops)
row(STEP_INTEGERS, integers_ops)
row(STEP_RANGE, range_ops)
row(STEP_CHOOSE, choose_ops)
row(STEP_TAKE, take_ops)
row(STEP_ROTATE, rotate_ops)
row(STEP_EXTEND, extend_ops)
row(STEP_ACCUMULATE, accumulate_ops)
row(STEP_SCATTER, scatter_ops)


cdef const StepKindOps* ops_of(int kind) except NULL:
    if not 0 <= kind < N_STEP_KINDS or step_kinds[kind].infer == NULL:
        raise ValueError(f"step kind {kind} has no row in runtime/_step_kinds.pyx")
    return &step_kinds[kind]
