from __future__ import annotations

import threading
import time

import pytest

from chaos import disk
from chaos.disk import Disk

pytestmark = pytest.mark.skipif(disk.why_not() is not None, reason=str(disk.why_not()))


def test_a_full_disk_takes_nothing_until_there_is_room() -> None:
    with Disk(16) as own:
        own.fill()
        with pytest.raises(OSError, match="No space left"):
            (own.root / "more").write_bytes(bytes(100_000))
        own.free()
        (own.root / "more").write_bytes(bytes(100_000))


def test_a_frozen_disk_holds_who_writes() -> None:
    with Disk(16) as own:
        own.freeze()
        writer = threading.Thread(target=(own.root / "file").write_bytes, args=(b"x",))
        writer.start()
        time.sleep(0.3)
        assert writer.is_alive()
        own.thaw()
        writer.join(20.0)
        assert (own.root / "file").read_bytes() == b"x"
