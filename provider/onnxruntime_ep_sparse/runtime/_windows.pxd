from libc.stdint cimport int64_t

from ._structs cimport Shape, StepKindOps

# Depth, height, width; a 1-D or 2-D operator has 1, stride 1 and no padding in front.
cdef struct Window:
    int rank
    int auto_pad
    int64_t kernel[3]
    int64_t stride[3]
    int64_t dilation[3]
    int64_t pad_begin[3]
    int64_t pad_end[3]
    int64_t image[3]       # the only size of images along an axis, or 0: any

# From a `Window`, or None: a product without a window (Gemm, MatMul) reads pixel by pixel.
cdef int fill_window(Window* window, spec) except -1
# The shape `y` of a convolution's or pool's result and the resolved padding (depth, height, width), as ONNX defines them. x is to have
# `channels`, y has `outputs`; 0 on success, else the reason is in `message`.
cdef int infer_window(const Window* w, const Shape* x, int64_t channels, int64_t outputs, bint pooling, int ceil_mode, Shape* y,
                      int64_t* pad, int64_t* pad_end, char* message, size_t message_size) noexcept nogil
cdef void pool_ops(StepKindOps* ops) noexcept
