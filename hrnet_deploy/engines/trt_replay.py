"""How the batches of a plan are run: a context for each slot and batch size, and its CUDA graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hrnet_deploy.engines.cuda.device import EXCLUSIVE, Device, Graph, Stream
from hrnet_deploy.engines.trt_plan import Plan
from hrnet_deploy.engines.trt_slot import Slot
from hrnet_deploy.spec import INPUT_NAME


@dataclass
class _Replay:
    """A context with its addresses set, and its graph.

    A context must not be changed once a graph was captured from it (TensorRT, "CUDA graphs").
    """

    context: Any
    graph: Graph | None = None


class Replays:
    """Runs the crops in slots on ``stream``, with ``graphs`` from the second time on as a graph.

    All contexts share the scratch memory, since they run one after the other.
    """

    def __init__(self, device: Device, plan: Plan, stream: Stream, *, graphs: bool) -> None:
        self.plan = plan
        self._device, self._stream, self._graphs = device, stream, graphs
        self._scratch = device.allocate(max(plan.scratch_bytes, 1))
        self._sizes = buckets(plan.min_batch, plan.max_batch)
        self._made: dict[tuple[Slot, int], _Replay] = {}

    def run(self, slot: Slot, count: int) -> None:
        """Enqueue the first ``count`` crops of ``slot``, and as many more as fill a batch size."""
        batch = next(size for size in self._sizes if size >= count)
        replay = self._made.get((slot, batch))
        if replay is None:
            with EXCLUSIVE:
                self._made[slot, batch] = self._first_run(slot, batch)
        elif replay.graph is not None:
            self._device.replay(replay.graph, self._stream)
        else:
            self.plan.enqueue(replay.context, self._stream)

    def close(self) -> None:
        """Let the contexts go, before their plan."""
        with EXCLUSIVE:
            self._made.clear()

    def _first_run(self, slot: Slot, batch: int) -> _Replay:
        """Enqueue as it is, which TensorRT asks for after new shapes, and capture only then."""
        plan, device, stream = self.plan, self._device, self._stream
        context = plan.new_context(self._scratch, stream)
        plan.set_shapes(context, {INPUT_NAME: (batch, *slot.crop_shape)})
        plan.set_addresses(context, {INPUT_NAME: slot.crops, **slot.outputs})
        plan.enqueue(context, stream)
        if not self._graphs:
            return _Replay(context)
        device.drain(stream)  # an error of the plain run shall not come out as one of the capture
        with device.capture(stream) as captured:
            plan.enqueue(context, stream)
        return _Replay(context, captured[0])


def buckets(smallest: int, largest: int) -> tuple[int, ...]:
    """The batch sizes that get a graph of their own: 1, 2, 3, 4, 6, 8, 12, ... up to ``largest``.

    A batch runs in the next larger one, so at most a third of the work is for nothing.
    """
    sizes, power = {smallest, largest}, 1
    while power <= largest:
        sizes |= {power, power * 3 // 2}
        power *= 2
    return tuple(sorted(size for size in sizes if smallest <= size <= largest))
