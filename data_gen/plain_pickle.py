"""Reads pickles of plain values and numpy arrays, and nothing that could run code."""

import pickle

import numpy as np


def encode_latin1(text: str | bytes, encoding: str = '') -> bytes:
    """Replaces _codecs.encode, with which pickles of protocol 2, such as mmcv's, hold bytes."""
    return text.encode('latin-1') if isinstance(text, str) else bytes(text)


class PlainDtype:
    """Stands for a dtype in a pickle. A real one takes its flags from there; forged ones turn bytes
    into pointers.
    """

    def __init__(self, text, *_):
        self.dtype = np.dtype(text)
        if self.dtype.kind not in 'biufSUO':
            raise pickle.UnpicklingError(f'an array of {self.dtype}')

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class PlainArray(np.ndarray):
    """An array in a pickle, whose dtype is a PlainDtype."""

    def __setstate__(self, state):
        version, shape, plain, fortran, content = state
        super().__setstate__((version, shape, plain.dtype, fortran, content))


class PlainUnpickler(pickle.Unpickler):
    """Builds lists, dicts, strings, numbers, and numpy's arrays, dtypes and numbers, nothing that
    could run code.
    """

    MODULES = {
        'numpy',
        '_codecs',
        'numpy.core.multiarray',
        'numpy._core.multiarray',
        'numpy.core.numeric',
        'numpy._core.numeric',
    }
    ALLOWED = {
        'ndarray': None,  # only an argument of _reconstruct
        'dtype': PlainDtype,
        '_reconstruct': lambda *_: np.ndarray.__new__(PlainArray, (0,), 'b'),
        'scalar': lambda plain, content: np.frombuffer(encode_latin1(content), plain.dtype)[0],
        '_frombuffer': lambda content, plain, shape, order: np.frombuffer(
            bytes(content), plain.dtype
        ).reshape(shape, order=order),
        'encode': encode_latin1,
    }

    def find_class(self, module, name):
        if module not in self.MODULES or name not in self.ALLOWED:
            raise pickle.UnpicklingError(
                f'it asks for {module}.{name}, but only plain values and arrays are read'
            )
        return self.ALLOWED[name]
