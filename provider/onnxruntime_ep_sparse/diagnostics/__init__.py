"""Questions to a session: the decision about every node, the time of every step.

It talks to live sessions through `ort`.
It must not import `measure`, `models` or `cli`.
"""
