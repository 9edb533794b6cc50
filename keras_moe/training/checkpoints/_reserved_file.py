"""A file whose room on the disk is taken before anything is written."""

import contextlib
import io
import os


class ReservedFile(io.RawIOBase):
    """An empty file for h5py, on a disk that will not be full.

    HDF5 takes the whole process down (by a segmentation fault) where it meets a
    full disk while it closes a file. So the room is taken first, which fails
    with an error of Python's; and given back where it was too much. HDF5 must
    not see it, or would look for a file of its own there.

    Args:
        handle: of the file, open for reading and writing.
        size: bytes, at least as many as will be written.

    Raises:
        OSError: if there is no room.
    """

    def __init__(self, handle: int, size: int):
        self._handle = handle
        self._end = 0
        self._place = 0
        os.ftruncate(handle, 0)
        # Not every system has the call.
        with contextlib.suppress(AttributeError):
            os.posix_fallocate(handle, 0, size)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._place,
            os.SEEK_END: self._end,
        }
        self._place = start[whence] + offset
        return self._place

    def readinto(self, buffer) -> int:
        left = max(0, min(len(buffer), self._end - self._place))
        found = os.preadv(
            self._handle, [memoryview(buffer)[:left]], self._place
        )
        self._place += found
        return found

    def write(self, buffer) -> int:
        view = memoryview(buffer)
        written = 0
        # A call may write less than it is given, of 2 GiB or more always.
        while written < len(view):
            written += os.pwrite(
                self._handle, view[written:], self._place + written
            )
        self._place += written
        self._end = max(self._end, self._place)
        return written

    def truncate(self, size: int | None = None) -> int:
        self._end = self._place if size is None else size
        return self._end

    def close(self) -> None:
        """Gives back what was not written to."""
        if not self.closed:
            os.ftruncate(self._handle, self._end)
        super().close()
