"""Resize of images, by tables of positions and weights that the plan makes."""

from libc.math cimport ceil, fabs, floor
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ._dealt cimport Dealt, can_be_dealt, dealt_as, dealt_line, dealt_operand, dealt_value, write_halo
from ._loops cimport Element
from ._structs cimport *


cdef enum:
    MOST_PIXELS = 2147483647    # along a side of an image that is resized to a computed size
    MOST_SCALE = 1 << 14          # of a computed scale, either way


# Height and width.
cdef struct Resize:
    Place place
    float scale[2]
    int64_t size[2]      # -1: by scale
    int scales           # the value of scales that the plan computes, or NONE
    int sizes
    int entry[2]         # of height and width in that list


# One row or column of a resized image: the two of the original between which it stands; nearest reads the first only.
cdef struct Line:
    int32_t first
    int32_t second
    float first_weight
    float second_weight


cdef struct ResizePlan:
    Resize resize        # with what the plan has computed
    Line* lines          # of output rows, then columns
    int doubled          # columns are 0 0 1 1 2 2 ...


cdef void resize_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Resize)
    ops.plan_size = sizeof(ResizePlan)
    ops.build = build
    ops.infer = infer
    ops.plan = plan_resize
    ops.release_plan = release_plan
    ops.deals = deals
    ops.item = resize_item


cdef int build(Step* step, object spec) except -1:
    cdef Resize* resize = <Resize*>step.spec
    resize.place.interpolation = spec.interpolation
    resize.place.coordinates = spec.coordinates
    for i in range(2):
        resize.scale[i] = spec.scale[i]
        resize.size[i] = spec.size[i]
        resize.entry[i] = spec.places[i]
    resize.scales = spec.computed_scales
    resize.sizes = spec.computed_sizes
    return 0


cdef int read_numbers(const Plan* plan, Resize* resize, char* message, size_t message_size) noexcept nogil:
    """Take the scales or sizes that the plan has computed; return 0 on success."""
    cdef int i
    for i in range(2):
        if resize.scales != NONE:
            resize.scale[i] = plan.values[resize.scales].numbers[resize.entry[i]].real
        if resize.sizes != NONE:
            resize.size[i] = plan.values[resize.sizes].numbers[resize.entry[i]].integer
            if not 1 <= resize.size[i] <= MOST_PIXELS:
                snprintf(message, message_size, "Resize to a size of %lld", <long long>resize.size[i])
                return 1
        if not 1.0 / MOST_SCALE <= resize.scale[i] <= MOST_SCALE:
            snprintf(message, message_size, "Resize by a scale of %g", <double>resize.scale[i])
            return 1
    return 0


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Resize* resize = &(<ResizePlan*>sp.own).resize
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int i
    resize[0] = (<Resize*>step.spec)[0]
    if read_numbers(plan, resize, message, message_size):
        return 1
    if x.rank != 4:
        snprintf(message, message_size, "input has %d dimensions, 4 expected", x.rank)
        return 1
    y[0] = x[0]
    for i in range(2):
        y.dims[2 + i] = resize.size[i]
        if resize.size[i] < 0:
            y.dims[2 + i] = <int64_t>(resize.scale[i] * <float>x.dims[2 + i])
        if x.dims[2 + i] == 0 and y.dims[2 + i]:
            snprintf(message, message_size, "an empty image cannot be resized")
            return 1
    return 0


cdef float original_place(const Place* how, float place, float scale, float out, float size) noexcept nogil:
    """Return the coordinate in the original image, in the float32 arithmetic of ONNX Runtime's CPU provider."""
    cdef float offset
    if how.coordinates == AT_ASYMMETRIC:
        return place / scale
    if how.coordinates == AT_ALIGN_CORNERS:
        return place * (size - 1) / (out - 1) if out != 1 else 0
    if how.coordinates == AT_TF_HALF_PIXEL_FOR_NN:
        return (place + <float>0.5) / scale
    if how.coordinates == AT_HALF_PIXEL_SYMMETRIC:
        offset = size / 2 * (1 - out / (scale * size))
        return <float>(<double>offset + (<double>place + 0.5) / <double>scale - 0.5)
    if how.coordinates == AT_PYTORCH_HALF_PIXEL and out <= 1:
        return 0
    return (place + <float>0.5) / scale - <float>0.5


cdef int64_t nearest_pixel(const Place* how, float place, bint shrinks) noexcept nogil:
    """Return the pixel that a coordinate rounds to.

    Fractions within 1e-6 of a half count as halves, as in ONNX Runtime 1.32: quotients like 1 / (2 / 7) are not exact.
    """
    cdef float fraction = place - <float>floor(place)
    if how.interpolation == READ_FLOOR:
        return <int64_t>floor(place)
    if how.interpolation == READ_CEIL:
        return <int64_t>ceil(place)
    if how.interpolation == READ_VERSION_10:
        return <int64_t>ceil(place) if shrinks else <int64_t>place
    if fabs(fraction - <float>0.5) <= <float>1e-6:
        return <int64_t>floor(place) + (how.interpolation == READ_ROUND_PREFER_CEIL)
    return <int64_t>floor(<double>place + 0.5)


cdef void set_line(Line* line, const Resize* resize, int64_t index, int64_t size, int64_t out, float scale) noexcept nogil:
    """Set the row (or column) of `size` that one of `out` rows (or columns) reads."""
    cdef int64_t pixel
    cdef float place = <float>index
    if scale != 1:
        place = original_place(&resize.place, place, scale, <float>out, <float>size)
    if resize.place.interpolation == READ_LINEAR:
        place = 0 if place < 0 else (place if place < <float>(size - 1) else <float>(size - 1))
        pixel = <int64_t>place
    else:
        pixel = nearest_pixel(&resize.place, place, scale < 1) if scale != 1 else index
    pixel = 0 if pixel < 0 else (pixel if pixel < size else size - 1)
    line.first = <int32_t>pixel
    line.second = <int32_t>(pixel + 1 if pixel + 1 < size else pixel)
    line.first_weight = <float>fabs(place - <float>line.second)
    line.second_weight = <float>fabs(place - <float>line.first)
    if line.first == line.second:
        line.first_weight = line.second_weight = 0.5


cdef float scale_of(const Resize* resize, int axis, int64_t size, int64_t out) noexcept nogil:
    if resize.size[axis] < 0:
        return resize.scale[axis]
    return <float>out / <float>size if size else 1


cdef bint doubles(const Resize* resize, int axis, int64_t size, int64_t out) noexcept nogil:
    """Return whether the rows (or columns) of the result read 0 0 1 1 2 2 ... by nearest pixels."""
    cdef float scale = scale_of(resize, axis, size, out)
    cdef int64_t i
    cdef Line line
    if out != 2 * size:
        return False
    for i in range(out):
        set_line(&line, resize, i, size, out, scale)
        if line.first != i // 2:
            return False
    return True


cdef bint deals(const CompiledProgram* program, const Plan* plan, int index, const Deal* deal, double* gain) noexcept nogil:
    """Return whether every pixel becomes four, which stand in the same lane."""
    cdef Resize* resize = &(<ResizePlan*>plan.steps[index].own).resize
    cdef Shape* x = &plan.values[program.steps[index].x].shape
    cdef Shape* y = &plan.values[program.steps[index].y].shape
    return resize.place.interpolation != READ_LINEAR and can_be_dealt(x, deal) and can_be_dealt(y, deal) and (
        doubles(resize, 0, x.dims[2], y.dims[2]) and doubles(resize, 1, x.dims[3], y.dims[3]))


cdef int plan_resize(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan which rows and columns each output row and column reads; return 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef ResizePlan* own = <ResizePlan*>sp.own
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef Resize* resize = &own.resize
    cdef float scale
    cdef int64_t i, place = 0
    cdef int axis
    cdef bint same = x.dims[2] == y.dims[2] and x.dims[3] == y.dims[3]
    if sp.dealt:
        sp.items = x.dims[0] * dealt_as(plan, x).rows
        return 0
    sp.items = x.dims[0] * x.dims[1]
    own.lines = <Line*>malloc((y.dims[2] + y.dims[3] + 1) * sizeof(Line))
    if own.lines == NULL:
        return 1
    for axis in range(2, 4):
        # an image that keeps its size is copied, whatever its scale says
        scale = 1 if same else scale_of(resize, axis - 2, x.dims[axis], y.dims[axis])
        for i in range(y.dims[axis]):
            set_line(own.lines + place + i, resize, i, x.dims[axis], y.dims[axis], scale)
        place += y.dims[axis]
    own.doubled = doubles(resize, 1, x.dims[3], y.dims[3])
    if resize.place.interpolation == READ_LINEAR:
        need_scratch(plan, 2 * y.dims[3])
    return 0


cdef void release_plan(const Step* step, StepPlan* sp) noexcept nogil:
    free((<ResizePlan*>sp.own).lines)


cdef void dealt_item(Job* job, int64_t index) noexcept nogil:
    """Compute the two rows of the result that read one row, all channels."""
    cdef Dealt x = dealt_operand(job.plan, job.step, job.sp), y = dealt_value(job.plan, job.step.y)
    cdef int64_t image = index // x.rows, row = index % x.rows, lanes = job.program.kernels.lanes, c
    cdef const float* source = job.x + dealt_line(&x, image, row, 0) + lanes
    cdef float* target = job.y + dealt_line(&y, image, 2 * row, 0) + lanes
    for c in range(x.channels):
        job.program.kernels.double_vectors(target + c * y.channel, target + c * y.channel + y.row, source + c * x.channel, x.vectors)
    write_halo(&job.plan.deal, &y, job.y + image * y.image, y.channels, 2 * row, 0, 0, y.vectors)
    write_halo(&job.plan.deal, &y, job.y + image * y.image, y.channels, 2 * row + 1, 0, 0, y.vectors)


cdef void resize_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Resize one plane, or two rows of dealt images."""
    cdef ResizePlan* own = <ResizePlan*>job.sp.own
    cdef Shape* x_shape = &job.plan.values[job.step.x].shape
    cdef Shape* y_shape = &job.plan.values[job.step.y].shape
    cdef int64_t width = x_shape.dims[3], out_height = y_shape.dims[2], out_width = y_shape.dims[3]
    cdef int64_t bytes_ = job.program.bytes[job.step.x]
    cdef const float* x = element_at(job.x, index * x_shape.dims[2] * width, bytes_)
    cdef float* y = element_at(job.y, index * out_height * out_width, bytes_)
    if job.sp.dealt:
        dealt_item(job, index)
        return
    if (<Resize*>job.step.spec).place.interpolation == READ_LINEAR:
        resize_linear(x, y, own.lines, width, out_height, out_width, scratch)
    elif bytes_ == 1:
        resize_nearest(<const uint8_t*>x, <uint8_t*>y, own.lines, width, out_height, out_width, own.doubled)
    else:
        resize_nearest(x, y, own.lines, width, out_height, out_width, own.doubled)


cdef void resize_nearest(const Element* x, Element* y, const Line* rows, int64_t width, int64_t out_height, int64_t out_width,
                         bint doubled) noexcept nogil:
    """Resize by the nearest pixels. A row that reads the same as the one before is copied from it."""
    cdef const Line* columns = rows + out_height
    cdef const Element* source
    cdef int64_t i, j
    for i in range(out_height):
        source = x + rows[i].first * width
        if i and rows[i].first == rows[i - 1].first:
            memcpy(y, y - out_width, out_width * sizeof(Element))
        elif doubled:
            for j in range(width):
                y[2 * j] = source[j]
                y[2 * j + 1] = source[j]
        else:
            for j in range(out_width):
                y[j] = source[columns[j].first]
        y += out_width


cdef void resize_linear(const float* x, float* y, const Line* rows, int64_t width, int64_t out_height, int64_t out_width,
                        float* scratch) noexcept nogil:
    """Rows of the original are interpolated along the row as they are met; two of them, side by side in `scratch`, make an output row."""
    cdef const Line* columns = rows + out_height
    cdef const float* source
    cdef const float* first
    cdef const float* second
    cdef float* line
    cdef float u, v
    cdef int32_t held[2]
    cdef int32_t row
    cdef int64_t i, j
    cdef int k
    held[0] = held[1] = NONE
    for i in range(out_height):
        for k in range(2):
            row = rows[i].second if k else rows[i].first
            if held[row % 2] == row:
                continue
            held[row % 2] = row
            source = x + row * width
            line = scratch + row % 2 * out_width
            for j in range(out_width):
                line[j] = columns[j].first_weight * source[columns[j].first] + columns[j].second_weight * source[columns[j].second]
        first = scratch + rows[i].first % 2 * out_width
        second = scratch + rows[i].second % 2 * out_width
        u = rows[i].first_weight
        v = rows[i].second_weight
        for j in range(out_width):
            y[j] = u * first[j] + v * second[j]
        y += out_width
