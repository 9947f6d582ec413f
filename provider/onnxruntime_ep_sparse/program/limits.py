"""Limits of programs; the C side gets those in C_LIMITS from `runtime/_enums.pxd`, which `setup.py` writes.

Imports nothing, because the build loads it before the package exists.
"""

MAX_RANK = 8
"""At most so many dimensions of a value."""
MAX_NUMBERS = 16
"""At most so many numbers in a list that a plan computes, such as a shape."""
MAX_PARTS = 1 << 10
"""At most so many operands of a Concat: each is a step."""
MAX_SIZE = (1 << 31) - 1
"""At most so many elements of a weight, and so many along a dimension that a node fixes."""
MAX_WINDOW = (1 << 16) - 1
"""At most this for each number of a window (kernel, strides, dilations, pads): a worker's memory follows from them."""
MAX_REACH = (1 << 20) - 1
"""At most so many pixels between the first and the last tap of a window."""
MAX_SCALE = 1 << 14
"""At most this scale of a Resize, either way."""
MAX_BLOCK = (1 << 10) - 1
"""At most this blocksize of DepthToSpace and SpaceToDepth."""
MAX_HIDDEN = 1 << 16
"""At most so many hidden units of a recurrent node: 16 bits number them."""
MOST_TILE_ROWS = 4
"""At most so many whole rows of the output in a tile."""
ROWS_FLOATS = 32 * 1024
"""At most so many floats in a tile of whole rows: a part of L2, of which a call reads what stays in L1."""

C_LIMITS = ("MAX_RANK", "MAX_NUMBERS", "MOST_TILE_ROWS", "ROWS_FLOATS")
"""Limits that C reads."""
