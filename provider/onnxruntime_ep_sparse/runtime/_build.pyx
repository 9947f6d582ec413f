"""Fills the C structures of `runtime/_structs.pxd` that depend on no shape from a `steps.ProgramSpec`, and frees them."""

import numpy as np

from libc.stdlib cimport free

from ._from_python cimport allocate, memory_of, fill_shape
from ._numbers cimport fill_numbers
from ._step_kinds cimport ops_of
from ._structs cimport *
from ._weight_store cimport shared_drop


cdef int fill_step(Step* step, source) except -1:
    step.ops = ops_of(source.kind)
    step.x = source.x
    step.r = source.r
    step.y = source.y
    step.act = source.activation.act
    step.alpha = source.activation.alpha
    step.beta = source.activation.beta
    step.completes = source.completes
    if step.ops.build != NULL:
        step.spec = allocate(step.ops.spec_size)
        step.ops.build(step, source.spec)
    return 0


cdef int fill_program(CompiledProgram* program, spec) except -1:
    program.inputs = <int*>memory_of(list(spec.inputs.values()), np.int32)
    program.n_inputs = len(spec.inputs)
    types = [spec.type_of(value) for value in range(spec.n_values)]
    if spec.has_bytes and program.byte_kernels == NULL:
        raise ValueError("values of 8 bits need kernels for bytes; pass a byte_table")
    program.type = <int*>memory_of(types, np.int32)
    program.bytes = <int*>memory_of([np.dtype(element.bits).itemsize for element in types], np.int32)
    program.onnx_type = <int*>memory_of([element.onnx for element in types], np.int32)
    if spec.ranks:
        program.ranks = <int*>memory_of(spec.ranks, np.int32)
    program.outputs = <int*>memory_of(list(spec.outputs.values()), np.int32)
    program.n_outputs = len(spec.outputs)
    program.constant = <float**>allocate(spec.n_values * sizeof(float*))
    program.constant_shape = <Shape*>allocate(spec.n_values * sizeof(Shape))
    program.n_values = spec.n_values
    for value, array in spec.constants.items():
        fill_shape(&program.constant_shape[<int>value], array.shape)
        program.constant[<int>value] = <float*>memory_of(array, np.float32)
    for value, array in spec.integers.items():
        fill_shape(&program.constant_shape[<int>value], array.shape)
        program.constant[<int>value] = <float*>memory_of(array, np.int64)
    program.steps = <Step*>allocate(len(spec.steps) * sizeof(Step))
    program.n_steps = len(spec.steps)
    for i, source in enumerate(spec.steps):
        fill_step(&program.steps[<int>i], source)
    fill_numbers(program, spec)
    count_readers(program)
    return 0


cdef int count_readers(CompiledProgram* program) except -1:
    """Return how often each value is read: by steps, and as an output."""
    cdef int* readers = <int*>allocate(program.n_values * sizeof(int))
    cdef Step* step
    cdef int s, i
    program.readers = readers
    for s in range(program.n_steps):
        step = &program.steps[s]
        readers[step.x] += 1
        if step.r != NONE:
            readers[step.r] += 1
        for i in range(step.n_more_results, step.n_more):
            if step.more[i] != NONE:
                readers[step.more[i]] += 1
    for i in range(program.n_outputs):
        readers[program.outputs[i]] += 1
    return 0


cdef void program_clear(CompiledProgram* program) noexcept nogil:
    cdef int i
    cdef Step* step
    for i in range(program.n_steps):
        step = &program.steps[i]
        if step.spec != NULL and step.ops.release != NULL:
            step.ops.release(step.spec)
        free(step.spec)
    if program.constant != NULL:
        for i in range(program.n_values):
            shared_drop(program.constant[i])
    free(program.steps)
    free(program.numbers)
    shared_drop(program.inputs)
    shared_drop(program.type)
    shared_drop(program.bytes)
    shared_drop(program.onnx_type)
    shared_drop(program.ranks)
    shared_drop(program.outputs)
    free(program.constant)
    free(program.constant_shape)
    free(program.readers)
