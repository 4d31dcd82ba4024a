"""Bytes cut into pieces anywhere, as TCP does."""

from __future__ import annotations

from hypothesis import strategies as st


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Any cutting of `data`, empty pieces included."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
