"""Packed weights: from the plain data of a product to C, and free again."""

import numpy as np

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free

from onnxruntime_ep_sparse_kernels._enums cimport STRIP

from ._from_python cimport allocate, memory_of, fill_shape
from ._weight_store cimport shared_drop
from ._windows cimport fill_window


cdef int fill_product(Product* p, spec) except -1:
    cdef GatherGroup* group
    cdef Panel* panel
    cdef int32_t i
    p.shape_rule = spec.rule
    p.x_rows = spec.x_rows
    p.y_rows = spec.y_rows
    p.M = spec.m
    p.channels = spec.channels
    p.taps = len(spec.taps)
    p.n_segments = len(spec.segments)
    p.segments = <SegmentShape*>memory_of(spec.segments, np.int32)
    p.units = len(spec.unit_segment) - 1
    p.unit_segment = <int32_t*>memory_of(spec.unit_segment, np.int32)
    p.tap = <Tap*>memory_of(spec.taps, np.int32)
    p.bias = <float*>memory_of(spec.bias__m, np.float32)
    if spec.scale__m is not None:
        p.scale = <float*>memory_of(spec.scale__m, np.float32)
    p.max_vectors = spec.max_vectors
    p.reads_below = any(segment[3] for segment in spec.segments) or any(tap[1] for tap in spec.taps)
    p.vector_operand = spec.vector_operand
    fill_shape(&p.batch, spec.batch)
    fill_window(&p.window, spec.window)
    p.groups = <GatherGroup*>allocate(len(spec.groups) * sizeof(GatherGroup))
    p.n_groups = len(spec.groups)
    for g in range(p.n_groups):
        group = &p.groups[g]
        source = spec.groups[g]
        group.channel_begin = source.channel_begin
        group.channels = source.channels
        group.offset_begin = p.offsets
        group.blocks = len(source.bounds) - 1
        group.bounds = <int64_t*>memory_of(source.bounds, np.int64)
        panel = &group.panel
        packed = source.panel
        panel.mr = packed.mr
        panel.row_begin = packed.row_begin
        panel.rows = packed.rows
        panel.strips = (panel.rows + STRIP - 1) // STRIP
        panel.groups = packed.row_start__bg.shape[1] - 1
        panel.columns = packed.k__nc.shape[1]
        panel.entries = len(packed.k__nc)
        panel.offsets = panel.columns * panel.entries
        panel.row_start = <int32_t*>memory_of(packed.row_start__bg, np.int32)
        panel.row = <int32_t*>memory_of(packed.row__bgr, np.int32)
        for i in range(panel.rows):
            panel.anywhere = panel.anywhere or panel.row[i] // STRIP != i // STRIP
        panel.narrow = packed.k__nc.dtype == np.uint16
        panel.k = memory_of(packed.k__nc, packed.k__nc.dtype)
        panel.value = <float*>memory_of(packed.value__nr, np.float32)
        group.nonzeros = source.nonzeros
        group.weights = source.weights
        p.offsets += panel.offsets
        p.macs += packed.value__nr.size
    return 0


cdef void release_product(Product* p) noexcept nogil:
    cdef int g
    for g in range(p.n_groups):
        shared_drop(p.groups[g].bounds)
        shared_drop(p.groups[g].panel.row_start)
        shared_drop(p.groups[g].panel.row)
        shared_drop(<void*>p.groups[g].panel.k)
        shared_drop(p.groups[g].panel.value)
        sell_free(p.groups[g].panel.sell)
        shared_drop(p.groups[g].panel.dense)
    free(p.groups)
    shared_drop(p.segments)
    shared_drop(p.unit_segment)
    shared_drop(p.tap)
    shared_drop(p.bias)
    shared_drop(p.scale)


cdef void sell_free(Sell* sell) noexcept nogil:
    if sell != NULL:
        shared_drop(sell.start)
        shared_drop(sell.row)
        shared_drop(sell.k)
        shared_drop(sell.value)
        free(sell)
