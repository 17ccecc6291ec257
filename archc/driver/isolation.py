"""Run a function in a separate process, so that a crash of native code does not end archc.

The separate process is a fork of the calling process.  All modules are loaded already, so it starts within some ten
milliseconds.  It sends back the names of its steps, and its result or exception.  If a fork is unsafe (macOS) or
impossible (Windows), the function runs in the calling process.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import select
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, NoReturn, TypeVar, cast

Result = TypeVar("Result")
Tell = Callable[[str], None]
"""Callback that receives the name of each step before the step begins."""

CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"
_LENGTH = struct.Struct("<Q")
_LAST_WORDS = 2000


@dataclass(eq=False)
class Ended(Exception):
    """The process ended, or was ended, without a result.

    Attributes:
        how: a phrase such as "was ended by the signal SIGSEGV".
        signal: the number of the signal, or None.
        steps: names of the steps that began; the last one did not end.
        words: the last line that the process printed.
    """

    how: str
    signal: int | None
    steps: list[str]
    words: str

    @property
    def killed(self) -> bool:
        """Return whether the process was killed from outside, for instance by a system that is out of memory."""
        return self.signal is not None and self.signal == getattr(signal, "SIGKILL", None)  # Windows has no SIGKILL


def isolated(work: Callable[[Tell], Result], seconds: float) -> Result:
    """Run `work` in a separate process; return its result, or raise its exception.

    Args:
        seconds: limit on the wall-clock time, after which the process is killed.

    Raises:
        Ended: there is no result, because the process crashed, was killed or took too long.
    """
    if not CAN_FORK:
        return work(lambda step: None)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # so that the child does not write the buffered text again
    with tempfile.TemporaryFile() as printed, ExitStack() as ends:
        answers, answer = _pipe(ends)
        # Only the parent keeps `lifeline` open: when the parent exits, the child reads an end of file and exits, too.
        alive, lifeline = _pipe(ends)
        pid = _fork()
        if pid == 0:
            answers.close()
            lifeline.close()
            _child(work, answer.fileno(), alive.fileno(), printed)
        answer.close()
        alive.close()
        status: int | None = None
        steps: list[str] = []
        try:
            return cast(Result, _result(answers.fileno(), time.monotonic() + seconds, steps))
        except TimeoutError:
            how = f"did not end within {seconds:.0f} seconds"
            raise Ended(how, None, steps, _last_words(printed)) from None
        except EOFError:
            status = os.waitpid(pid, 0)[1]
            raise _ended(status, steps, _last_words(printed)) from None
        finally:
            if status is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _pipe(ends: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Open a pipe; return its read end and its write end, which the stack `ends` closes."""
    read, write = os.pipe()
    return ends.enter_context(open(read, "rb", 0)), ends.enter_context(open(write, "wb", 0))


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork if other threads run: a lock that another thread holds stays locked in the child.
        # The libraries that the child calls release their locks before a fork.  If the child waits for another lock,
        # the time limit ends it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _child(work: Callable[[Tell], object], answer: int, alive: int, printed: IO[bytes]) -> NoReturn:
    """Run `work`, send the result, and end without unwinding into the parent's `finally` blocks."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _forbid_core_dumps()
        faulthandler.disable()  # no traceback of a crash: archc reports the crash as a diagnostic
        for stream in (1, 2):
            os.dup2(printed.fileno(), stream)
        threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
        try:
            _send(answer, "result", work(lambda step: _send(answer, "step", step)))
        except BaseException as failure:  # every exception is sent, since `os._exit` ends the child without a traceback
            sent = RuntimeError(f"SystemExit: {failure}") if isinstance(failure, SystemExit) else failure
            _send(answer, "failure", (sent, traceback.format_exc()))
    finally:
        os._exit(0)


def _end_with_parent(alive: int) -> None:
    os.read(alive, 1)  # no byte is ever written: the call returns when the parent ends
    os._exit(0)


def _forbid_core_dumps() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _send(answer: int, kind: str, value: object) -> None:
    try:
        data = pickle.dumps((kind, value))
        pickle.loads(data)
    except Exception:  # pickle fails if the exception's class is local, or if `__init__` does not accept `args`
        assert kind == "failure" and isinstance(value, tuple)
        data = pickle.dumps((kind, (RuntimeError(f"{type(value[0]).__name__}: {value[0]}"), value[1])))
    data = _LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(answer, data) :]


def _result(answers: int, deadline: float, steps: list[str]) -> object:
    """Receive the result of the child, or raise its exception; append the names of its steps to `steps`.

    Args:
        deadline: latest time for the result, as a value of `time.monotonic`.

    Raises:
        EOFError: the child ended without a result.
        TimeoutError: there is no result at the deadline.
    """
    messages = select.poll()
    messages.register(answers, select.POLLIN)
    received = b""
    while messages.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(answers, 1 << 16)
        if not data:
            raise EOFError
        received += data
        while len(received) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(received)[0]
            if len(received) < end:
                break
            kind, value = pickle.loads(received[_LENGTH.size : end])
            received = received[end:]
            if kind == "result":
                return value
            if kind == "failure":
                failure, trace = value
                raise failure from RuntimeError(f"in the separate process:\n{trace}")
            steps.append(value)
    raise TimeoutError


def _ended(status: int, steps: list[str], words: str) -> Ended:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return Ended(f"ended its process with the status {code}", None, steps, words)
    known = {number.value: number.name for number in signal.Signals}
    return Ended(f"was ended by the signal {known.get(-code, -code)}", -code, steps, words)


def _last_words(printed: IO[bytes]) -> str:
    """The last line that was printed: often the message of a library that aborted."""
    length = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, length - _LAST_WORDS))
    lines = [line.strip() for line in printed.read().decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
