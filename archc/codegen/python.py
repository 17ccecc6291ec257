"""Last check of emitted Python: Python itself compiles it before it is written."""

from __future__ import annotations


def compiled(source: str, name: str) -> str:
    """The source of a module, once Python has compiled it.

    Args:
        name: of the module, for the message.

    Raises:
        RuntimeError: it is no Python, which is a mistake of an emitter and never of the model.
    """
    try:
        compile(source, f"{name}.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as mistake:
        raise RuntimeError(f"the module emitted for `{name}` does not compile: {mistake}") from mistake
    return source
