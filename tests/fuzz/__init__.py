"""Fuzzer: random models, run by the interpreter and emitted programs and compared: `make fuzz SEEDS=0:10000`.

`models` writes a text, `checks` compiles and runs it, `minimize` shrinks a text that fails, and `campaign` does so for
many seeds in child processes.  Operators, attributes and dtypes come from the registry, so a new operator needs no
change here.
"""
