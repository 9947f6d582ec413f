"""Which layout of the weights a product with few pixels uses: that with the least time by measured costs.

A tile of few pixels leaves lanes idle; SELL leaves none, but looks up x for every nonzero; the dense layout looks up nothing, but
multiplies zeros. Which one is least depends on the number of pixels, the share of nonzeros, and where the weights come from. All give the
same bits, so the choice is free.
"""

from libc.stdint cimport int64_t

from ._dense cimport dense_of
from ._lock cimport *
from ._packed cimport LAYOUT_DENSE, LAYOUT_SELL, LAYOUT_TILES, GatherGroup, Layout, Panel, Product, ProductPlan, Sell, sell_free
from ._sell cimport sell_of, sell_width
from ._structs cimport *
from ._weight_store cimport shared_drop
cimport onnxruntime_ep_sparse_kernels.table as t

if make_process_lock():
    raise MemoryError("no memory for a lock of layouts of products with few pixels")


cdef Layout layout_of(const Product* p, const ProductPlan* q, const t.KernelTable* kernels) noexcept nogil:
    """Few pixels stand in memory as rows of x and y, and K is within reach of 16 bits."""
    cdef int g
    cdef double nonzeros = 0, weights = 0, sell, tiles, dense
    if p.taps != 1 or not q.pixels or q.slices != 1 or q.in_depth * q.in_height * q.in_width != q.pixels or (
            q.pad[0] or q.pad[1] or q.pad[2]):
        return LAYOUT_TILES
    if q.pixels > 1 and not (p.x_rows and p.y_rows and q.pixels <= FEW_VECTORS * kernels.lanes):
        return LAYOUT_TILES
    if p.shape_rule == SHAPE_CONV and p.n_groups > 1:
        return LAYOUT_TILES
    for g in range(p.n_groups):
        if p.groups[g].channels > 65536:
            return LAYOUT_TILES
        nonzeros += p.groups[g].nonzeros
        weights += p.groups[g].weights
    sell = nonzeros * sell_cost(q.pixels, kernels)
    tiles = p.macs * spmm_cost(p, q, kernels)
    dense = weights * dense_cost(q.pixels, weights, kernels)
    if dense < sell and dense < tiles:
        return LAYOUT_DENSE
    return LAYOUT_SELL if sell < tiles else LAYOUT_TILES


cdef double sell_cost(int64_t pixels, const t.KernelTable* kernels) noexcept nogil:
    """Return the cost of a vector of nonzeros in the layout SELL: whole vectors of pixels, and the rest in the narrowest kernel for it."""
    cdef int64_t left = pixels % kernels.lanes
    cdef double cost = pixels // kernels.lanes * kernels.sell_cost[kernels.lanes]
    return cost + kernels.sell_cost[sell_width(kernels, left)] if left else cost


cdef double spmm_cost(const Product* p, const ProductPlan* q, const t.KernelTable* kernels) noexcept nogil:
    """Return the cost of a vector of nonzeros in the tile kernels."""
    cdef const float* cost = kernels.spmm_cost[p.groups[0].panel.mr]
    return cost[0] + ceil_div(q.pixels, kernels.lanes) * cost[1]


cdef double dense_cost(int64_t pixels, double weights, const t.KernelTable* kernels) noexcept nogil:
    """Return the cost of a vector of weights in the dense kernels, which read it once per as many pixels as the widest kernel has."""
    cdef double bytes_ = weights * sizeof(float), each = pixels, least
    cdef int64_t parts = ceil_div(pixels, kernels.dense_rows)
    least = parts * kernels.dense_least[0 if bytes_ <= NEAR_BYTES else 1 if bytes_ <= FAR_BYTES else 2]
    if bytes_ > FAR_BYTES:
        each *= 1.5  # 4096x4096: 1.5 to 1.75
    return least if least > each else each


cdef int few_create(Product* p, const ProductPlan* q, int64_t lanes) noexcept nogil:
    cdef int g
    for g in range(p.n_groups):
        if q.layout != LAYOUT_TILES and group_create(&p.groups[g], q.layout, lanes):
            return 1
    return 0


cdef int group_create(GatherGroup* group, Layout layout, int64_t lanes) noexcept nogil:
    """Make the layout of a group, unless it has one already. It is made outside the lock. Of two that are made at the same time, the first
    one stays."""
    cdef Panel* panel = &group.panel
    cdef Sell* sell = NULL
    cdef float* dense = NULL
    cdef bint has
    process_lock()
    has = has_layout(panel, layout)
    process_unlock()
    if has:
        return 0
    if layout == LAYOUT_SELL:
        sell = sell_of(group, lanes)
    else:
        dense = dense_of(group, lanes)
    if sell == NULL and dense == NULL:
        return 1
    process_lock()
    has = has_layout(panel, layout)
    if not has and layout == LAYOUT_SELL:
        panel.sell = sell
    elif not has:
        panel.dense = dense
    process_unlock()
    if has:
        sell_free(sell)
        shared_drop(dense)
    return 0


cdef inline bint has_layout(const Panel* panel, Layout layout) noexcept nogil:
    return panel.sell != NULL if layout == LAYOUT_SELL else panel.dense != NULL
