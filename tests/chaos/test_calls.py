from __future__ import annotations

import numpy as np

from chaos.calls import RATE_HZ, line_of, lines


def test_a_seed_gives_the_same_conversations_again_and_another_one_others() -> None:
    some, again, others = lines(3, 4.0, seed=5), lines(3, 4.0, seed=5), lines(3, 4.0, seed=6)
    for n in range(3):
        assert some[n].conversation.pcm.shape == (4 * RATE_HZ, 2)
        np.testing.assert_array_equal(some[n].conversation.pcm, again[n].conversation.pcm)
        assert not np.array_equal(some[n].conversation.pcm, others[n].conversation.pcm)
    assert not np.array_equal(some[0].conversation.pcm, some[1].conversation.pcm)


def test_a_calls_id_tells_its_line() -> None:
    (line,) = lines(1, 2.0, seed=1)
    assert line.call_id(7) != line.call_id(8)
    assert line_of(line.call_id(7)) == line_of(line.call_id(8)) == line.name
