"""Options that several commands share: declaration, help and parsing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from archc.diagnostics import Diagnostics, Source, did_you_mean
from archc.ir.given_sizes import SIZES_HELP, read_sizes

if TYPE_CHECKING:
    from archc.driver.compiled import Compiled


class UsageError(Exception):
    """A command line that argparse accepts, but that has no meaning."""


COMMANDS_ELSEWHERE = {
    **dict.fromkeys(("build", "run", "export", "convert", "emit", "train"), "compile"),
    **dict.fromkeys(("lint", "validate", "verify", "test"), "check"),
    **dict.fromkeys(("format",), "fmt"),
    **dict.fromkeys(("summary", "info", "print", "inspect", "describe", "params"), "show"),
    **dict.fromkeys(("plot", "visualize", "graph", "render"), "draw"),
    **dict.fromkeys(("operators", "layers", "list"), "ops"),
}
"""Command names of other programs, each with the corresponding command of archc."""


class Parser(argparse.ArgumentParser):
    """Argument parser that suggests corrections of mistyped words, and keeps line breaks in help texts."""

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self._intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Accept options between files, as in `check a.arch --json b.arch`, which argparse refuses."""
        several = any(action.nargs == "+" and not action.option_strings for action in self._actions)
        if not several or self._intermixed:
            return super().parse_known_args(args, namespace)
        self._intermixed = True  # `parse_known_intermixed_args` calls this method
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Suggest the nearest choice; argparse's own message lists all choices."""
        if action.choices is not None and value not in action.choices:
            what = "command" if action.dest == "command" else "choice"
            known = ", ".join(map(str, action.choices))
            way = did_you_mean(str(value), map(str, action.choices)) or f"the choices are {known}"
            if what == "command":
                way = _command_help(str(value)) or way
            raise argparse.ArgumentError(action, f"there is no {what} `{value}`; {way}")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]  # no overloads
        """Refuse unrecognized arguments, and suggest the option that was probably meant."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            chosen = self.of_command(getattr(found, "command", None))
            option = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
            known = [name for name in chosen._option_string_actions if name.startswith("--")]
            longer = next((name for name in known if option is not None and name.startswith(option)), None)
            way = f"did you mean `{longer}`?" if longer else did_you_mean(option, known) if option else None
            loose = next((one for one in getattr(found, "set", ()) if "=" not in one), None)
            if option is None and loose is not None:
                way = f"`--set` takes a name and a value in one word: `--set {loose}={unknown[0]}`"
            chosen.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; {way}" if way else ""))
        return found

    def of_command(self, name: str | None) -> argparse.ArgumentParser:
        """The parser of a command, or this parser if there is no such command."""
        groups = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return next((parsers[name] for parsers in groups if name in parsers), self)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n{self.format_usage()}`{self.prog} --help` shows all options.\n")


def _command_help(word: str) -> str | None:
    """Help for an unknown command that is a file name, or the name of a command in other programs."""
    if word.endswith(".arch"):
        return f"a command comes first: `archc check {word}`"
    command = COMMANDS_ELSEWHERE.get(word.lower())
    return None if command is None else f"write `archc {command}`"


class VersionAction(argparse.Action):
    """The action of `--version`; the version is read only if the option is given."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any):
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        from archc.version import __version__

        print(f"archc {__version__}")
        parser.exit(0)


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add the argument FILE, for a command that takes one file."""
    parser.add_argument("file", metavar="FILE", help="an .arch file, or - for standard input")


def text_of(file: str | Source) -> Path | Source:
    """The path of a file, or the text of standard input for `-`; a `Source` is returned unchanged.

    Raises:
        ArchcError: standard input is not UTF-8 (`invalid-utf8`).
    """
    if isinstance(file, Source):
        return file
    if file != "-":
        return Path(file)
    from archc.language.elaboration.loading import decode

    return decode(sys.stdin.buffer.read(), "<stdin>")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a model, set its attributes, and allow absolute imports."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="model to use; required if the file has several and none has the name of the file",
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set an attribute of the model; write VALUE as in an .arch file: --set classes=100; may be repeated",
    )
    parser.add_argument(
        "--allow-absolute-imports", action="store_true", help="allow absolute paths in `import` statements"
    )


def add_load(parser: argparse.ArgumentParser) -> None:
    """Add the option that loads operators, passes and targets from a Python file."""
    parser.add_argument(
        "--load",
        metavar="FILE.py",
        action="append",
        default=[],
        help="load operators, passes and targets from a Python file; may be repeated",
    )


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the option `--sizes`: values of symbolic sizes."""
    parser.add_argument("--sizes", metavar='"H=224,N=8"', type=sizes, default={}, help=SIZES_HELP)


def add_compilation(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the passes, the weights, the calibration data and the symbolic sizes."""
    add_sizes(parser)
    parser.add_argument(
        "--passes",
        metavar="PIPELINE",
        default="",
        help="passes with options (\"lowrank(energy=0.95, on='fc*'), quant\"), or the name of a `pipeline` in the file",
    )
    add_weights(parser)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the weights and the calibration data."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="trained weights: .safetensors or .npz; by default PyTorch's initialization from the seed; "
        "`none` allocates no weights (then no ONNX model can be written)",
    )
    parser.add_argument(
        "--rename",
        metavar="FILE",
        help="rules, one a line, that map names in the weights file to paths of weights in the model: "
        "encoder.layer.{i}.output.dense.* -> h[{i}].down.*",
    )
    parser.add_argument(
        "--calib",
        "--data",
        metavar="FILE.npz",
        help="calibration data: inputs by name, samples along the first axis; by default seeded random inputs",
    )
    parser.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="seed of initial weights and random inputs (default: 0)"
    )
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="also read PyTorch's pickle files, with `torch.load(weights_only=True)`",
    )


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add the option `--strict`, which turns warnings into errors."""
    parser.add_argument(
        "--strict", action="store_true", help="treat warnings as errors: exit status 1, nothing is written"
    )


def hold_to_strict(arguments: argparse.Namespace, diagnostics: Diagnostics) -> None:
    """Raise all diagnostics as errors if there are warnings and `--strict` is given.

    Raises:
        ArchcError: there are warnings, and `--strict` is given.
    """
    if arguments.strict:
        diagnostics.refuse_warnings()


def asks_for_compilation(arguments: argparse.Namespace) -> bool:
    """Return whether the options ask for passes, weights or data, so that the model must be compiled."""
    return bool(arguments.passes) or any(
        given is not None for given in (arguments.weights, arguments.rename, arguments.calib)
    )


def warn_without(needed: str, arguments: argparse.Namespace, diagnostics: Diagnostics, names: Sequence[str]) -> None:
    """Warn of options that are given without another option, and have no effect without it.

    Args:
        needed: name of the other option, such as `passes`.
        names: names of the options that need it.
    """
    for name in names if not getattr(arguments, needed) else ():
        if getattr(arguments, name.replace("-", "_")):
            warn_without_effect(diagnostics, name, f"without `--{needed}`", f"leave it out, or give `--{needed}`")


def warn_without_effect(diagnostics: Diagnostics, name: str, reason: str, help: str = "leave it out") -> None:
    """Warn of an option without effect (`option-without-effect`)."""
    diagnostics.warn("option-without-effect", f"`--{name}` has no effect {reason}", help=help)


def compiled(
    arguments: argparse.Namespace,
    diagnostics: Diagnostics,
    progress: Callable[[str], None],
    baseline: bool = False,
    uses_data: bool = False,
) -> Compiled:
    """Compile the file with the options of `add_model` and `add_compilation`.

    Args:
        baseline: whether to keep the model before the passes.
        uses_data: True if the command reads the calibration data, also without passes.

    Raises:
        ArchcError: as `archc.compile`.
    """
    from archc.codegen.target import Form
    from archc.compiler import compile
    from archc.driver.parsing import parse_settings

    form = (field.name for field in fields(Form))
    compiled = compile(
        text_of(arguments.file),
        model=arguments.model,
        passes=arguments.passes,
        weights=arguments.weights,
        rename=arguments.rename,
        calib=arguments.calib,
        set=parse_settings(arguments.set),
        sizes=arguments.sizes,
        seed=arguments.seed,
        allow_pickle=arguments.allow_pickle,
        allow_absolute_imports=arguments.allow_absolute_imports,
        diagnostics=diagnostics,
        progress=progress,
        baseline=baseline,
        **{name: getattr(arguments, name, None) for name in ("emit", *form)},  # `archc show` emits nothing
    )
    compiled.files |= {Path(path).absolute() for path in arguments.load}
    if not uses_data:
        _warn_of_data(arguments, compiled, diagnostics)
    return compiled


def _warn_of_data(arguments: argparse.Namespace, compiled: Compiled, diagnostics: Diagnostics) -> None:
    """Warn of calibration data and of a seed that nothing uses."""
    from archc.passmanager.sizes import choose_sizes

    # The data also gives the values of symbolic sizes, at which costs are counted.
    if arguments.calib and compiled.sizes == choose_sizes(compiled.graph, arguments.sizes):
        warn_without("passes", arguments, diagnostics, ("calib",))
    if arguments.seed and compiled.graph.tensors is None:
        warn_without_effect(diagnostics, "seed", "with `--weights none`")


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that prints `what` as JSON."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as one JSON object")


def seed(text: str) -> int:
    """Parse a seed, an integer of at least 0."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"a seed is an integer such as 0 or 42, not `{text}`")
    return int(text)


def count_or_zero(text: str) -> int:
    """Parse a number of at least 0."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"a number is expected, such as 3, not `{text}`")
    return int(text)


def count(text: str) -> int:
    """Parse a number of at least 1."""
    number = count_or_zero(text)
    if number == 0:
        raise argparse.ArgumentTypeError("the least number is 1, not 0")
    return number


def sizes(text: str) -> Mapping[str, int]:
    """Parse sizes by name: `N=32,T=128`."""
    try:
        return read_sizes(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def words(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of words."""
    return tuple(word.strip() for word in text.split(","))


def no_choice(option: str, word: str, choices: Sequence[str]) -> argparse.ArgumentError:
    """The error for a word that is no choice, for an option whose choices are known only after `--load`."""
    way = did_you_mean(word, choices) or f"the choices are {', '.join(choices)}"
    return argparse.ArgumentError(None, f"argument {option}: `{word}` is no choice; {way}")
