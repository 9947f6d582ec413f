"""Removes channels that are constant or unused, as channel pruning leaves them. The rules of operators stand in `ops`.

Forwards, constants are followed. An output whose weights are all zero is its bias at every position, and so is what is computed from it
until it meets padding or a channel that is not constant. A product adds a constant input to its bias. Where its padding makes zeros beside
the constant, one constant channel remains in place of all: they differ by a factor, which goes into the weights. Backwards, a channel is
needed where weights read it, where it leaves the graph, or where it is joined with a needed one. The others are removed from weights,
biases and shapes. Every sum that is changed is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..graph.ir import FLOAT, INT64, Graph, Node, Value, shape_of
from ..ops.channels import ChannelPlan, Channels, Flow
from ..ops.table import row_for


def remove_dead_channels(graph: Graph) -> Graph:
    """Return the same nodes with fewer channels between them, or `graph` itself if no channel can be removed.

    Inputs and outputs of the graph stay as they are. `table.can_run` must be None for all nodes. Results are those of `graph` up to
    rounding, except that Inf or NaN in an unused channel no longer matters.
    """
    removal = Removal(Flow(graph))
    removal.follow()
    removal.spread()
    return removal.result()


@dataclass
class Removal:
    """Removes channels in three steps: `follow` constants, `spread` the needed channels, and `result` leaves out the others."""

    flow: Flow
    plans: list[ChannelPlan] = field(default_factory=list)

    @np.errstate(all="ignore")  # values that are not finite are not known
    def follow(self) -> None:
        """Make the plan of each node by its operator's rule; without one, all channels of its operands stay."""
        for node in self.flow.graph.nodes:
            row = row_for(node)
            plan = row.channels(self.flow, node) if row is not None and row.channels is not None else None
            if plan is None:
                self.flow.keep(node.inputs + node.implicit_inputs)
                plan = ChannelPlan(node)
            self.plans.append(plan)
        self.flow.keep(self.flow.graph.outputs)

    # which channels stay

    def spread(self) -> None:
        """Mark all channels that the needed ones imply; a value keeps at least one channel."""
        touching: dict[str, list[ChannelPlan]] = {}
        for plan in self.plans:
            for name in {plan.y, plan.x, *(link.x for link in plan.links)}:
                touching.setdefault(name, []).append(plan)
        self._spread_from([name for name, channels in self.flow.channels.items() if channels.needed__c.any()], touching)
        for name, channels in reversed(self.flow.channels.items()):
            if not channels.needed__c.any():
                channels.needed__c[int(np.argmax(channels.known__c))] = True
                self._spread_from([name], touching)

    def _spread_from(self, names: list[str], touching: dict[str, list[ChannelPlan]]) -> None:
        waiting = deque(names)
        while waiting:
            name = waiting.popleft()
            for plan in touching[name]:
                if plan.x != name:
                    waiting.extend(self._implied(plan))

    def _implied(self, plan: ChannelPlan) -> list[str]:
        """Mark the channels that one node implies, and return the names of the values of which more are needed now."""
        y = self.flow.channels.get(plan.y)
        if y is None:
            return []
        news = []
        read = self.flow.channels.get(plan.x)
        if read is not None and not read.needed__c.all() and plan.read is not None and self._need(read, plan.read(y.needed__c)):
            news.append(plan.x)
        for link in plan.links:
            x = self.flow.channels[link.x]
            if y.needed__c.all() and x.needed__c.all():
                continue
            part = y.needed__c[link.begin : link.begin + x.size * link.times].reshape(x.size, link.times)
            if self._need(x, np.logical_or.reduce(part, axis=1)):
                news.append(link.x)
            if (part != x.needed__c[:, None]).any():
                part[:] = x.needed__c[:, None]  # a view into y
                news.append(plan.y)
        return news

    @staticmethod
    def _need(channels: Channels, more__c: NDArray[np.bool_]) -> bool:
        news = bool((more__c & ~channels.needed__c).any())
        channels.needed__c |= more__c
        return news

    # the smaller graph

    def result(self) -> Graph:
        """Return the graph with the needed channels."""
        graph, constants = self.flow.graph, self.flow.constants
        nodes = tuple(self._cut(plan) for plan in self.plans)
        if not constants and all(channels.needed__c.all() for channels in self.flow.channels.values()):
            return graph
        values = dict(graph.values)
        for name, channels in self.flow.channels.items():
            shape = list(shape_of(graph, name))
            if shape[channels.axis] is not None and not channels.needed__c.all():
                shape[channels.axis] = channels.left
                values[name] = replace(values[name], shape=tuple(shape))
        used = {name for node in nodes for name in node.inputs}
        new = {name: array for name, array in constants.items() if name in used}
        values |= {name: Value(name, FLOAT if array.dtype == np.float32 else INT64, array.shape) for name, array in new.items()}

        def load(name: str) -> NDArray:
            return new[name] if name in new else graph.load(name)

        return replace(graph, nodes=nodes, values=values, constant_names=graph.constant_names | set(new), load=load)

    def _cut(self, plan: ChannelPlan) -> Node:
        """Return the node without the unneeded channels."""
        node = plan.node
        for index, axis, name in plan.sliced:
            needed__c = self.flow.channels[name].needed__c
            if not needed__c.all():
                node = self.flow.constant(node, index, self.flow.load(node.inputs[index]).compress(needed__c, axis))
        if plan.counted and not self.flow.channels[plan.y].needed__c.all():
            for index, place in plan.counted:
                numbers = self.flow.load(node.inputs[index]).copy()
                numbers[place] = self.flow.channels[plan.y].left
                node = self.flow.constant(node, index, numbers)
        if plan.attribute:
            node = replace(node, attributes={**node.attributes, plan.attribute: self.flow.channels[plan.y].left})
        return node
