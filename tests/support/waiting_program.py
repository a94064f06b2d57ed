"""The smallest program that runs until a signal ends it, for images without anything else."""

import platform
import struct

from tests.support.requirements import require

_BASE = 0x400000
#: pause() for ever: mov eax, 34; syscall; jmp back
_CODE = bytes.fromhex("b8220000000f05ebf7")


def waiting_program() -> bytes:
    """A static executable of this machine."""
    require(platform.machine() == "x86_64", "an x86-64 processor")
    size = 64 + 56 + len(_CODE)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 2, 62, 1, _BASE + 64 + 56, 64, 0, 0),
        *(64, 56, 1, 0, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return head + segment + _CODE
