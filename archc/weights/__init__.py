"""Lazy tensors and the files that they are in: nothing is read before something needs it.

`tensor` says what a lazy tensor is, `store` what a graph holds of them, `load` reads any file by its kind.
"""
