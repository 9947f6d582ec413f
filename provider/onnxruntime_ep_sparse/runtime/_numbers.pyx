"""Numbers that a plan computes from shapes: lists of at most MAX_NUMBERS, as `program/numbers.py` describes them.

They stand in the plan, and no run computes them again. Where they depend on the contents of an input, the plan is that of these contents.
Integers wrap around, as those of ONNX Runtime's CPU provider do; floats are float32.
"""

from libc.math cimport ceilf, fabsf, floorf, fmodf, rintf, sqrtf
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from ._arithmetic cimport compute_integers, cut_float, narrowed
from ._from_python cimport allocate
from ._structs cimport *


cdef int fill_numbers(CompiledProgram* program, object spec) except -1:
    cdef Numbers* numbers
    cdef int i, k
    places = {value: place for place, value in enumerate(spec.inputs.values())}
    program.numbers = <Numbers*>allocate(len(spec.computed) * sizeof(Numbers))
    program.n_numbers = len(spec.computed)
    for i, source in enumerate(spec.computed):
        numbers = &program.numbers[i]
        numbers.op = source.op
        numbers.type = spec.type_of(source.y)
        numbers.y = source.y
        numbers.before = source.before
        numbers.rank = len(source.shape)
        numbers.count = source.count
        numbers.columns = source.shape[1] if len(source.shape) == 2 else 1
        for k, value in enumerate(source.operands):
            numbers.operands[k] = value
        for k, place in enumerate(source.places):
            numbers.places[k] = place
        for k, integer in enumerate(source.integers):
            numbers.literals[k].integer = integer
        for k, real in enumerate(source.floats):
            numbers.literals[k].real = real
        if source.op == NUMBER_INPUT:
            numbers.input = places[source.operands[0]]
            numbers.content = program.n_contents
            program.n_contents += 1
    return 0


cdef int read_contents(CompiledProgram* program, const void** inputs, const Shape* shapes, Number* contents, char* message,
                       size_t message_size) noexcept nogil:
    cdef const Numbers* numbers
    cdef const Shape* shape
    cdef const void* data
    cdef int i, k
    if program.n_contents == 0:
        return 0
    memset(contents, 0, program.n_contents * MAX_NUMBERS * sizeof(Number))
    for i in range(program.n_numbers):
        numbers = &program.numbers[i]
        if numbers.op != NUMBER_INPUT:
            continue
        shape = &shapes[numbers.input]
        if shape.rank != numbers.rank or (shape.rank and shape.dims[0] != numbers.count):
            snprintf(message, message_size, "input %d does not have the %d numbers that are expected", numbers.input, numbers.count)
            return 1
        data = inputs[numbers.input]
        for k in range(numbers.count):
            if numbers.type == TYPE_INT64:
                contents[numbers.content * MAX_NUMBERS + k].integer = (<const int64_t*>data)[k]
            elif numbers.type == TYPE_INT32:
                contents[numbers.content * MAX_NUMBERS + k].integer = (<const int32_t*>data)[k]
            elif numbers.type == TYPE_BOOL:
                contents[numbers.content * MAX_NUMBERS + k].integer = (<const char*>data)[k] != 0
            else:
                contents[numbers.content * MAX_NUMBERS + k].real = (<const float*>data)[k]
    return 0


cdef void write_numbers(CompiledProgram* program, const Plan* plan, int value, void* y) noexcept nogil:
    cdef const ValuePlan* v = &plan.values[value]
    cdef int i
    for i in range(<int>v.size):
        if program.type[value] == TYPE_INT64:
            (<int64_t*>y)[i] = v.numbers[i].integer
        elif program.type[value] == TYPE_INT32:
            (<int32_t*>y)[i] = <int32_t>v.numbers[i].integer
        elif program.type[value] == TYPE_BOOL:
            (<char*>y)[i] = <char>v.numbers[i].integer
        else:
            (<float*>y)[i] = v.numbers[i].real


cdef int shape_of_numbers(const Plan* plan, int value, int64_t least, Shape* shape, char* message, size_t message_size) noexcept nogil:
    cdef const ValuePlan* v = &plan.values[value]
    cdef int i
    shape.rank = <int>v.size
    for i in range(shape.rank):
        shape.dims[i] = v.numbers[i].integer
        if not least <= shape.dims[i] <= MOST_ELEMENTS:
            snprintf(message, message_size, "a shape that the graph computes has the dimension %lld", <long long>shape.dims[i])
            return 1
    return 0


cdef int compute_numbers(CompiledProgram* program, Plan* plan, int index, char* message, size_t message_size) noexcept nogil:
    cdef const Numbers* numbers = &program.numbers[index]
    cdef ValuePlan* y = &plan.values[numbers.y]
    cdef const ValuePlan* x
    cdef int i
    y.shape.rank = numbers.rank
    y.size = numbers.count
    y.shape.dims[0] = numbers.count // numbers.columns
    y.shape.dims[1] = numbers.columns
    y.numbers = plan.numbers + index * MAX_NUMBERS
    if numbers.op == NUMBER_LITERAL:
        for i in range(numbers.count):
            y.numbers[i] = numbers.literals[i]
    elif numbers.op == NUMBER_INPUT:
        for i in range(numbers.count):
            y.numbers[i] = plan.key.contents[numbers.content * MAX_NUMBERS + i]
    elif numbers.op == NUMBER_SHAPE:
        for i in range(numbers.count):
            if numbers.places[i] >= plan.values[numbers.operands[0]].shape.rank:
                snprintf(message, message_size, "a value has no dimension %d", numbers.places[i])
                return 1
            y.numbers[i].integer = plan.values[numbers.operands[0]].shape.dims[numbers.places[i]]
    elif numbers.op == NUMBER_PICK:
        for i in range(numbers.count):
            y.numbers[i] = plan.values[numbers.operands[0]].numbers[numbers.places[i]]
    elif numbers.op == NUMBER_JOIN:
        x = &plan.values[numbers.operands[0]]
        for i in range(numbers.count):
            y.numbers[i] = x.numbers[i] if i < x.size else plan.values[numbers.operands[1]].numbers[i - x.size]
    elif numbers.op == NUMBER_SELECT:
        for i in range(numbers.count):
            y.numbers[i] = number_at(plan, numbers.operands[1 if number_at(plan, numbers.operands[0], i).integer else 2], i)
    elif numbers.op == NUMBER_SUM or numbers.op == NUMBER_PRODUCT:
        total(numbers, &plan.values[numbers.operands[0]], y)
    else:
        return elementwise(program, numbers, plan, y, message, message_size)
    return 0


cdef inline Number number_at(const Plan* plan, int value, int i) noexcept nogil:
    """Return number `i` of a value, whose only number stands for all."""
    return plan.values[value].numbers[0 if plan.values[value].size == 1 else i]


cdef void total(const Numbers* numbers, const ValuePlan* x, ValuePlan* y) noexcept nogil:
    cdef uint64_t integer = numbers.op == NUMBER_PRODUCT
    cdef float real = <float>integer
    cdef int i
    for i in range(<int>x.size):
        if numbers.op == NUMBER_PRODUCT:
            integer *= <uint64_t>x.numbers[i].integer
            real *= x.numbers[i].real
        else:
            integer += <uint64_t>x.numbers[i].integer
            real += x.numbers[i].real
    if numbers.type == TYPE_FLOAT32:
        y.numbers[0].real = real
    else:
        y.numbers[0].integer = narrowed(numbers.type, <int64_t>integer)


cdef int elementwise(const CompiledProgram* program, const Numbers* numbers, Plan* plan, ValuePlan* y, char* message,
                     size_t message_size) noexcept nogil:
    """Compute numbers one by one, from one or two operands; 0 on success."""
    cdef int a = numbers.operands[0], b = numbers.operands[1] if numbers.op >= NUMBER_ADD else numbers.operands[0], i
    cdef int64_t integer, first, second
    cdef bint floats = program.type[a] == TYPE_FLOAT32
    for i in range(numbers.count):
        if numbers.op == NUMBER_CAST:
            y.numbers[i] = converted(number_at(plan, a, i), floats, numbers.type)
        elif floats:
            y.numbers[i] = of_floats(numbers.op, number_at(plan, a, i).real, number_at(plan, b, i).real)
        elif (numbers.op == NUMBER_DIV or numbers.op == NUMBER_MOD) and number_at(plan, b, i).integer == 0:
            snprintf(message, message_size, "a shape is computed by a division by zero")
            return 1
        else:
            first = number_at(plan, a, i).integer
            second = number_at(plan, b, i).integer
            compute_integers(numbers.op, &integer, &first, 1, &second, 1, 1)
            y.numbers[i].integer = narrowed(numbers.type, integer)
    return 0


cdef Number converted(Number x, bint from_float, int type) noexcept nogil:
    """Return a number in another type: floats are cut to integers."""
    cdef Number y
    y.integer = 0
    if type == TYPE_FLOAT32:
        y.real = x.real if from_float else <float>x.integer
    elif type == TYPE_BOOL:
        y.integer = x.real != 0 if from_float else x.integer != 0
    else:
        y.integer = cut_float(x.real, type) if from_float else narrowed(type, x.integer)
    return y


cdef Number of_floats(int op, float a, float b) noexcept nogil:
    cdef Number y
    y.integer = 0
    if op == NUMBER_NEG:
        y.real = -a
    elif op == NUMBER_ABS:
        y.real = fabsf(a)
    elif op == NUMBER_FLOOR:
        y.real = floorf(a)
    elif op == NUMBER_CEIL:
        y.real = ceilf(a)
    elif op == NUMBER_ROUND:
        y.real = rintf(a)
    elif op == NUMBER_SQRT:
        y.real = sqrtf(a)
    elif op == NUMBER_ADD:
        y.real = a + b
    elif op == NUMBER_SUB:
        y.real = a - b
    elif op == NUMBER_MUL:
        y.real = a * b
    elif op == NUMBER_DIV:
        y.real = a / b
    elif op == NUMBER_MOD:
        y.real = fmodf(a, b)
    elif op == NUMBER_MIN:
        y.real = a if a != a or a < b else b
    elif op == NUMBER_MAX:
        y.real = a if a != a or a > b else b
    elif op == NUMBER_EQUAL:
        y.integer = a == b
    elif op == NUMBER_LESS:
        y.integer = a < b
    elif op == NUMBER_LESS_EQUAL:
        y.integer = a <= b
    return y
