"""Memory is taken again, but never while anything still looks at it."""

import threading

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cssd_geo.recycled import Recycled


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_of_what_is_gone_is_taken_again_and_of_nothing_else() -> None:
    memory, kind = Recycled(), np.dtype(np.int16)
    first = memory.empty((3, 40, 50), kind)
    place, view = _address(first), first.transpose(1, 2, 0)[5:, :7]
    tensor = torch.from_numpy(view)
    view[...] = 8
    del first, view
    second = memory.empty((3, 40, 50), kind)
    assert _address(second) != place
    second[...] = 9
    assert (tensor == 8).all()
    del tensor
    assert _address(memory.empty((2, 50, 40), kind)) == place  # smaller, and gone at once
    third = memory.empty((3, 20, 50), np.dtype(np.float32))
    assert _address(third) == place
    assert third.shape == (3, 20, 50)
    assert third.dtype == np.float32
    assert memory.empty((4, 40, 50), kind).nbytes == 16_000  # larger than any before


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.booleans()), max_size=30))
def test_arrays_that_are_there_at_the_same_time_never_share_memory(steps: list[tuple[int, int, bool]]) -> None:
    memory, held = Recycled(), dict[int, np.ndarray]()
    for number, (place, length, view) in enumerate(steps):
        array = memory.empty((length, 2), np.dtype(np.int64))
        array[...] = number
        held[place] = array[: length // 2, 1] if view else array
        held = {key: value for key, value in held.items() if key <= place or value.size % 3}
        del array
        values = {key: set(np.unique(value).tolist()) for key, value in held.items()}
        assert all(len(seen) <= 1 for seen in values.values())
        seen = [next(iter(each)) for each in values.values() if each]
        assert len(set(seen)) == len(seen)


def test_several_threads_take_and_leave_it() -> None:
    memory, wrong = Recycled(), list[int]()

    def work(number: int) -> None:
        for _ in range(300):
            array = memory.empty((100,), np.dtype(np.int32))
            array[...] = number
            if (array[::7] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
