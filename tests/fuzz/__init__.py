"""Differential fuzzer: compare the interpreter and the emitted programs on random models.

`make fuzz SEEDS=0:10000` runs it.  `models` generates a text, `checks` compiles and runs it, `minimize` shrinks a
failing text, and `campaign` runs many seeds in child processes.  Operators, attributes and dtypes come from the
registry, so a new operator needs no change here.
"""
