"""Numba kernels, parallel over users. The modules import numba: they are imported when they are first used."""
