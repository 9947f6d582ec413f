"""A stand-in for a module of PyTorch: the methods of its parameters that binding masks uses, over numpy."""

import numpy as np


class Tensor:
    """A float32 tensor on the CPU."""

    device = "cpu"

    def __init__(self, values):
        self.values = np.array(values, np.float32)

    dtype = property(lambda self: self.values.dtype)
    shape = property(lambda self: self.values.shape)
    data = property(lambda self: self)

    def detach(self):
        """Share the values, as PyTorch does."""
        return self

    float = cpu = detach

    def numpy(self):
        """The values themselves."""
        return self.values

    def new_tensor(self, values):
        """A tensor of the same type."""
        return Tensor(values)

    def copy_(self, other):
        """Take the values of another tensor of the same shape."""
        assert other.shape == self.shape
        self.values[...] = other.values

    def mul_(self, other):
        """Multiply in place."""
        assert other.shape == self.shape
        self.values *= other.values


class Module:
    """Parameters by name, and buffers, whose names begin with `running`."""

    def __init__(self, **tensors):
        self.tensors = {name.replace("__", "."): Tensor(values) for name, values in tensors.items()}

    def named_parameters(self):
        """Pairs of name and parameter."""
        return ((name, tensor) for name, tensor in self.tensors.items() if ".running" not in name)

    def named_buffers(self):
        """Pairs of name and buffer."""
        return ((name, tensor) for name, tensor in self.tensors.items() if ".running" in name)

    def __getitem__(self, name):
        return self.tensors[name].values
