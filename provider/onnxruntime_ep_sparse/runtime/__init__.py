"""Programs in C: plans, memory and the steps themselves, run without the GIL on ONNX Runtime's threads.

`_program.Program` is the way in; it takes a `program.steps.ProgramSpec` as plain data.
It imports no other folder of this package.
"""
