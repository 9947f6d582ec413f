"""The time that a region is expected to save, in units: what the passes make of several nodes is taken or given back as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from heapq import heappop, heappush

from ..graph.ir import Node
from ..ops.row import FUSED
from .cost import DENSE, LEAST_SAVED, REGION_MARGIN, ROWS_MARGIN, SHORT_MARGIN, SHORT_S, Density, Prices

Unit = tuple[int, ...]
"""Indices of nodes, ascending."""


class RegionGain:
    """Seconds that taking some nodes as one region is expected to save, the hand-over at its border included.

    ONNX Runtime runs the nodes of the graph that `prices` are for; the provider runs those of the graph that `rewritten` are for, what the
    passes have made of them, with weights whose `densities` stand by index, dense ones by default. Nodes of the graph have a price if
    they are `runnable`.
    """

    def __init__(
        self, prices: Prices, rewritten: Prices, members: Iterable[int], densities: Mapping[int, Density], runnable: Collection[int]
    ) -> None:
        self.runnable = runnable
        self.prices = prices
        self.graph = prices.graph
        self.members = set(members)
        self.readers = Counter(name for i in self.members for name in reads(self.graph.nodes[i]))
        """How many nodes of the region read each value."""
        made = rewritten.graph
        runs: list[tuple[Unit, Node, Prices]] = []
        """The units, with the node and the prices of what runs."""
        for node in (made.nodes[place] for place in sorted(made.places[i] for i in self.members & made.places.keys())):
            unit = tuple(sorted((node.index, *node.covers)))
            if self.members.issuperset(unit):
                runs.append((unit, node, rewritten))
        # where only a part of a unit is in the region, its nodes run one by one
        left = self.members.difference(*(unit for unit, *_ in runs))
        runs += [((i,), self.graph.nodes[i], prices) for i in left]

        def seconds_of(rows: int | None) -> tuple[dict[Unit, tuple[float, float]], dict[Unit, tuple[bool, bool]]]:
            found, shared = {}, {}
            for unit, node, own in runs:
                both, density = own.seconds(node, rows), densities.get(node.index, DENSE)
                # ONNX Runtime fuses the patterns that exporters write as several nodes, too
                one = own is prices or node.domain == FUSED
                theirs = [both] if one else [prices.seconds(self.graph.nodes[i], rows) for i in unit]
                found[unit] = sum(each.ort for each in theirs), both.ours(density)
                shared[unit] = any(each.ort_splits for each in theirs), both.splits(density)
            return found, shared

        nominal = seconds_of(None)
        self.seconds, self.shared = nominal[0], dict(nominal[1])
        """Of ONNX Runtime and of ours, for each unit, at the nominal sizes: seconds, and whether several threads share it."""
        # the numbers by which all products are judged
        each = [found for i in self.members if (found := prices.row_counts(self.graph.nodes[i]))]
        counts: list[int | None] = [rows for rows in each[0] if all(rows in others for others in each)] if each else [None]
        every = [nominal if rows is None else seconds_of(rows) for rows in counts]
        self._saved = [{unit: theirs - ours for unit, (theirs, ours) in seconds.items()} for seconds, _ in every]
        """The time that each unit saves, for each number of rows."""
        self._shared = [(rows, shared) for rows, (_, shared) in zip(counts, every, strict=True)]
        """Each number of rows, and which units several threads share then."""
        theirs_of = (sum(theirs for theirs, _ in seconds.values()) for seconds, _ in every)
        self._weights = [self.theirs() / max(theirs, LEAST_SAVED) / len(counts) for theirs in theirs_of]
        """Of each number of rows, in `saved`."""

    def saved(self, unit: Unit) -> float:
        """Seconds that a unit saves, without the hand-over.

        Where the number of rows is only known at run time, this is the mean of what it saves for several numbers of them, each as a share
        of the region's time with ONNX Runtime, times that time at the nominal sizes.
        """
        return sum(weight * saved[unit] for weight, saved in zip(self._weights, self._saved, strict=True))

    def holds(self, index: int, gone: Unit = ()) -> bool:
        """Return whether the region, without the nodes that are `gone`, holds a node."""
        return index in self.members and index not in gone

    def crossing(self, name: str, gone: Unit = ()) -> float:
        """Seconds for handing over a value at the border of the region without the nodes that are `gone`.

        0 for a value that stays inside or outside, and for the graph's own inputs and outputs.
        """
        maker = self.graph.producer.get(name)
        if maker is None:
            return 0.0
        readers = len(self.graph.consumers.get(name, ()))
        if self.readers_inside(name, gone) == (readers if self.holds(maker.index, gone) else 0):
            return 0.0
        return self.prices.handover(name)

    def readers_inside(self, name: str, gone: Unit = ()) -> int:
        """Return how many nodes of the region without the nodes that are `gone` read a value."""
        return self.readers[name] - sum(i in self.members and name in reads(self.graph.nodes[i]) for i in gone)

    def values(self, indices: Iterable[int]) -> list[str]:
        """Return the names of the values that these nodes read or make and that some node makes."""
        nodes = [self.graph.nodes[i] for i in indices]
        return list(dict.fromkeys(name for node in nodes for name in (*node.inputs, *node.outputs) if name in self.graph.producer))

    def total(self) -> float:
        """Seconds that the region saves as it is."""
        woken = sum(weight * self.woken(*each) for weight, each in zip(self._weights, self._shared, strict=True))
        return sum(map(self.saved, self.seconds)) - self.handover() - sum(self._weights) * self.prices.region - woken

    def woken(self, rows: int | None, shared: Mapping[Unit, tuple[bool, bool]]) -> float:
        """Seconds that the region adds to a run to wake threads, for a number of rows for which several threads share these units.

        Negative where ONNX Runtime wakes threads for nodes of the region alone and we do not, 0 where that is not known.
        """
        theirs, ours = wakes(shared)
        if theirs == ours:
            return 0.0
        others = self.prices.shared_outside(self.members, self.runnable, rows)
        if ours:
            return 0.0 if others else self.prices.wake
        return -self.prices.wake if others is False else 0.0

    def is_enough(self) -> bool:
        """Return whether the region saves so much that it should be taken: by the mean, and for every number of rows.

        It has to without what it saves by not waking threads: where one run follows the other, ONNX Runtime's are awake.
        """
        overhead = self.overhead()
        # the weights bring the times with ONNX Runtime to the same sum
        theirs, total = self.theirs() / len(self._saved), 0.0
        for weight, saved, shared in zip(self._weights, self._saved, self._shared, strict=True):
            saves = weight * (sum(saved.values()) - overhead - max(0.0, self.woken(*shared)))
            margin = SHORT_MARGIN if theirs < weight * SHORT_S else ROWS_MARGIN
            if saves < theirs * (1 - 1 / margin):
                return False
            total += saves
        return total >= max(LEAST_SAVED, self.theirs() * (1 - 1 / REGION_MARGIN))

    def theirs(self) -> float:
        """Seconds that ONNX Runtime's CPU provider takes for the nodes of the region."""
        return sum(theirs for theirs, _ in self.seconds.values())

    def overhead(self) -> float:
        """Seconds of the region besides its nodes, at the nominal sizes."""
        return self.handover() + self.prices.region

    def handover(self) -> float:
        """Seconds for handing over all values at the border of the region."""
        return sum(self.crossing(name) for name in self.values(self.members))

    def without(self, *units: Unit) -> float:
        """Seconds that giving back some units together would add to the saving."""
        gone = tuple(i for unit in units for i in unit)
        return sum(self.crossing(name) - self.crossing(name, gone) for name in self.values(gone)) - sum(map(self.saved, units))

    def give_back(self, unit: Unit) -> None:
        """Take the nodes of a unit out of the region."""
        self.members.difference_update(unit)
        self.readers.subtract(name for i in unit for name in reads(self.graph.nodes[i]))
        del self.seconds[unit]
        for saved in self._saved:
            del saved[unit]
        for shared in (self.shared, *(shared for _, shared in self._shared)):
            del shared[unit]

    def trim(self, wanted: Collection[int]) -> None:
        """Give back units at the border that hold no wanted node, one at a time, as long as that is expected to save time.

        The units are looked at in order, again and again. After the first round only those for which a unit given back has changed
        something, so that the time does not grow with the square of the region.
        """
        units = sorted(self.seconds)
        place = {i: n for n, unit in enumerate(units) for i in unit}
        counts = (Counter(name for i in unit for name in reads(self.graph.nodes[i])) for unit in units)
        most = max((max(count.values(), default=0) for count in counts), default=0)
        rounds = [list(range(len(units))), []]
        due = set(rounds[0]), set[int]()
        while rounds[0]:
            n = heappop(rounds[0])
            due[0].discard(n)
            unit = units[n]
            if self._is_at_border(unit) and not any(i in wanted for i in unit) and self.without(unit) > 0:
                changed = self._near(unit, most)
                self.give_back(unit)
                for i in changed & self.members:
                    later = place[i] < n
                    if place[i] not in due[later]:
                        due[later].add(place[i])
                        heappush(rounds[later], place[i])
            if not rounds[0]:
                rounds.reverse()
                due = due[1], due[0]
        if self._give_back_pair(wanted):
            self.trim(wanted)

    def _give_back_pair(self, wanted: Collection[int]) -> bool:
        """Give back a unit at the border with the only one that reads it, if that saves time where neither alone would, and say so.

        A dense first convolution follows the QuantizeLinear of its image, which costs little with either provider.
        """
        place = {i: unit for unit in self.seconds for i in unit}
        for unit in sorted(self.seconds):
            comes = any(
                self.graph.producer[name].index in self.members.difference(unit)
                for name in self._read_by(unit)
                if name in self.graph.producer
            )
            if comes or any(i in wanted for i in unit):
                continue
            readers = {
                place.get(reader.index) for i in unit for name in self.graph.nodes[i].outputs for reader in self._readers(name, unit)
            }
            second = readers.pop() if len(readers) == 1 else None
            if second is None or any(i in wanted for i in second):
                continue
            others = {self.graph.producer[name].index for name in self._read_by(second) if name in self.graph.producer}
            if not any(i in self.members for i in others.difference(unit, second)) and self.without(unit, second) > 0:
                self.give_back(unit)
                self.give_back(second)
                return True
        return False

    def _read_by(self, unit: Unit) -> set[str]:
        return {name for i in unit for name in reads(self.graph.nodes[i])}

    def _readers(self, name: str, unit: Unit) -> list[Node]:
        """Return the nodes besides those of a unit that read one of its values."""
        return [reader for reader in self.graph.consumers.get(name, ()) if reader.index not in unit]

    def _near(self, unit: Unit, most: int) -> set[int]:
        """Return the nodes for which giving back `unit` changes the answers of `without` or `_is_at_border`.

        `most` is how many nodes of a unit read one value.
        Readers of a value see whether it leaves the region, and whether others of them are in it: the first that goes, and the last ones.
        """
        found = set()
        names = {name for i in unit for name in (*reads(self.graph.nodes[i]), *self.graph.nodes[i].outputs)}
        for name in names & self.graph.producer.keys():
            maker, readers = self.graph.producer[name], self.graph.consumers.get(name, [])
            before, left = self.readers_inside(name), self.readers_inside(name, unit)
            found.add(maker.index)
            if maker.index in unit or before == len(readers) or left <= most:
                found.update(reader.index for reader in readers)
        return found

    def _is_at_border(self, unit: Unit) -> bool:
        """Return whether no value comes to the unit from the rest of the region, or none goes there."""
        graph, nodes = self.graph, [self.graph.nodes[i] for i in unit]
        comes = any(self.holds(graph.producer[name].index, unit) for node in nodes for name in node.inputs if name in graph.producer)
        goes = any(self.readers_inside(name, unit) for node in nodes for name in node.outputs)
        return not (comes and goes)


def wakes(shared: Mapping[Unit, tuple[bool, bool]]) -> tuple[bool, bool]:
    """Return whether any of these units is shared between threads, with ONNX Runtime and with us."""
    return any(theirs for theirs, _ in shared.values()), any(ours for _, ours in shared.values())


def reads(node: Node) -> set[str]:
    """Return the names of the values that a node reads, also in its subgraphs."""
    return {name for name in node.inputs + node.implicit_inputs if name}
