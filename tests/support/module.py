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
    """Parameters by name."""

    def __init__(self, **parameters):
        self.parameters = {name.replace("__", "."): Tensor(values) for name, values in parameters.items()}

    def named_parameters(self):
        """Pairs of name and parameter."""
        return iter(self.parameters.items())

    def __getitem__(self, name):
        return self.parameters[name].values
