"""Check that emitted Python compiles, before it is written."""

from __future__ import annotations


def compiled(source: str, name: str) -> str:
    """Compile the source of a module as a check, and return it unchanged.

    Args:
        name: the name of the module, for the message.

    Raises:
        RuntimeError: it does not compile, which is a bug of the emitter, never of the model.
    """
    try:
        compile(source, f"{name}.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as mistake:
        raise RuntimeError(f"the module emitted for `{name}` does not compile: {mistake}") from mistake
    return source
