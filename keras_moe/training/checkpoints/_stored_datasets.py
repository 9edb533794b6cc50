"""Datasets of an HDF5 file that a stranger may have made."""

import math

import h5py
import numpy as np


class StoredDatasets:
    """Reads the plain datasets of one HDF5 file, and nothing else.

    HDF5 can take a dataset's values from any file that the process may read
    (external storage, virtual datasets, external links), and can name a shape
    of terabytes that lies nowhere. A checksum does not help: who makes the file
    makes the checksum. So each link must be a hard one, each dataset must lie
    in one piece in this file, and all of them together are no larger than it.

    Args:
        file: opened.
        size: bytes of the file.
    """

    def __init__(self, file: h5py.File, size: int):
        self._file = file
        self._left = size

    def read(self, path: str) -> np.ndarray:
        """Reads a dataset.

        Args:
            path: names of the groups and of the dataset, with "/" between.

        Raises:
            KeyError: if there is none.
            ValueError: if its values are not in the file, or not plain numbers.
        """
        dataset = self._find(path)
        kind, itemsize = dataset.dtype.kind, dataset.dtype.itemsize
        if kind not in "fiu" or dataset.dtype.fields is not None:
            raise ValueError(
                f"{path!r} must hold numbers. Received: {dataset.dtype}."
            )
        needed = math.prod(dataset.shape or ()) * itemsize
        if dataset.shape is None or not self._lies_inside(dataset, needed):
            raise ValueError(
                f"{path!r} must lie in one piece within the file. Received: a "
                f"dataset of shape {dataset.shape}, {needed} bytes."
            )
        # Links that lead to one dataset a thousand times would be copies.
        self._left -= needed
        if self._left < 0:
            raise ValueError(
                "All datasets together must not be larger than the file. "
                f"Received: {path!r} of {needed} bytes, {-self._left} too many."
            )
        stored = np.empty(dataset.shape, dataset.dtype)
        if stored.size:
            dataset.read_direct(stored)
        return stored

    def _find(self, path: str) -> h5py.Dataset:
        found = self._file
        for name in path.split("/"):
            if not isinstance(found, h5py.Group):
                raise KeyError(f"no group holds {path!r}")
            link = found.get(name, getlink=True)
            if link is None:
                raise KeyError(f"there is no {path!r}")
            if not isinstance(link, h5py.HardLink):
                raise ValueError(
                    f"{path!r} must be in the file. Received: a "
                    f"{type(link).__name__}."
                )
            found = found[name]
        if not isinstance(found, h5py.Dataset):
            raise KeyError(f"{path!r} is no dataset")
        return found

    def _lies_inside(self, dataset: h5py.Dataset, needed: int) -> bool:
        made = dataset.id.get_create_plist()
        if made.get_layout() != h5py.h5d.CONTIGUOUS:
            return False
        if made.get_external_count():
            return False
        # Space that was never written is not stored, and reads as zeros.
        return needed == 0 or dataset.id.get_storage_size() == needed
