"""Steps from a text to the checked graph of one of its models.

`archc check` runs these steps alone, on every keystroke of an editor, so a module that most files do not need, such as
the pass manager, is imported in the function that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archc.diagnostics import ArchcError, Diagnostics, Source, did_you_mean, error, listed
from archc.garbage_collector import paused_collector
from archc.ir.graph import Graph
from archc.ir.stages import Stages
from archc.language.elaboration.elaborate import elaborate
from archc.language.elaboration.loading import load, load_module
from archc.language.elaboration.modules import Module
from archc.language.elaboration.step_budget import StepBudget
from archc.language.syntax import tree
from archc.language.syntax.literals import value_of
from archc.language.syntax.parser import parse_value
from archc.types.attributes import AttributeProblem


def open_module(text: str | Path | Source, diagnostics: Diagnostics, allow_absolute_imports: bool = False) -> Module:
    """Parse a file or text, and the files that it imports.

    Raises:
        ArchcError: a file cannot be read or parsed.
    """
    module = load_module(open_source(text), diagnostics, allow_absolute_imports)
    diagnostics.check()
    return module


def open_source(text: str | Path | Source) -> Source:
    """The text itself, or the text of the file."""
    if isinstance(text, Source):
        return text
    if isinstance(text, Path) or (text.endswith(".arch") and "\n" not in text):
        return load(text)
    return Source(text)


def checked(module: Module, model: str | None, values: Mapping[str, Any], diagnostics: Diagnostics) -> Graph:
    """Check the pipelines and devices of a file, and return the graph of one model.

    Raises:
        ArchcError: the text has errors; all of them are reported.
    """
    check_surroundings(module, diagnostics)
    return checked_model(module, model, values, diagnostics)


def checked_model(
    module: Module,
    model: str | None,
    values: Mapping[str, Any],
    diagnostics: Diagnostics,
    budget: StepBudget | None = None,
) -> Graph:
    """The graph of one model of a file.

    Args:
        budget: counter of elaboration steps, shared by the models of a file.

    Raises:
        ArchcError: the model or `diagnostics` has errors; all of them are reported.
    """
    own = Diagnostics()  # errors elsewhere in the file must not stop the build of this model
    graph: Graph | None = None
    try:
        graph = build(module, model, values, own, budget)
        Stages(graph)
    except ArchcError as failure:
        diagnostics.extend(failure.diagnostics)
    diagnostics.extend(own)
    diagnostics.check()
    assert graph is not None, "without an error there is a graph"
    return graph


def check_surroundings(module: Module, diagnostics: Diagnostics) -> None:
    """Report errors in a file's pipelines and devices; no model depends on them."""
    if module.pipelines:
        from archc.driver.pipelines import check_pipelines

        check_pipelines(module, diagnostics)
    if module.devices:
        from archc.language.elaboration.device_statements import devices_of

        devices_of(module, diagnostics)


def build(
    module: Module,
    model: str | None,
    values: Mapping[str, Any],
    diagnostics: Diagnostics,
    budget: StepBudget | None = None,
) -> Graph:
    """The graph of one model of a file; `budget` counts the steps of elaboration.

    Raises:
        ArchcError: there is no such model, or the model has errors.
    """
    with paused_collector():
        graph = elaborate(module, choose_model(module, model), values, diagnostics, budget)
    diagnostics.check()
    assert graph is not None, "elaboration fails with an error or gives a graph"
    return graph


def choose_model(module: Module, name: str | None) -> tree.Definition:
    """Choose a model of a file: by name, else the only model, or the model with the name of the file.

    Raises:
        ArchcError: there is no such model, or the file has several models and none is chosen.
    """
    where = module.source.name
    stem = module.source.path.stem if module.source.path is not None else ""
    chosen = module.model(stem if name is None else name)
    if chosen is not None:
        return chosen
    models = module.models
    if name is not None:
        way = did_you_mean(name, models) or (f"it has {listed(models)}" if models else "it has no models")
        raise error("unknown-model", f"{where} has no model `{name}`", help=way)
    if len(models) == 1:
        return module.definitions[models[0]]
    if not models:
        raise error(
            "no-model",
            f"{where} has no model",
            help="write `model name { ... }`; a file without a model can be imported, but not compiled",
        )
    raise error(
        "which-model", f"{where} has several models", help=f"choose one with `--model`: {listed(sorted(models))}"
    )


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse `name=value` texts, with values as in the language.

    Raises:
        ArchcError: a text has another form, or two texts set one attribute (`bad-setting`).
    """
    values: dict[str, Any] = {}
    diagnostics = Diagnostics()
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip().isidentifier():
            raise error(
                "bad-setting",
                f"`--set {setting}` is not of the form name=value",
                help="write, for instance, `--set classes=100`",
            )
        name = name.strip()
        if name in values:
            raise error(
                "bad-setting",
                f"`--set` gives `{name}` twice",
                notes=[f"the options are {listed([f'--set {each}' for each in settings if _sets(each, name)])}"],
                help="leave one of them out",
            )
        source = Source(text.strip(), f"--set {name}")
        value = parse_value(source, diagnostics)
        diagnostics.check()
        try:
            values[name] = value.span.text if isinstance(value, tree.MemberExpression) else value_of(value)
        except AttributeProblem as problem:
            raise error(problem.code, problem.message, value.span, help=problem.help) from None
    return values


def _sets(setting: str, name: str) -> bool:
    return setting.partition("=")[0].strip() == name


def texts_of(module: Module) -> frozenset[Path]:
    """Paths of a module and of all modules that it imports."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        one = waiting.pop()
        path = one.source.path.absolute() if one.source.path is not None else None
        if path not in found:
            waiting += one.imports.values()
        if path is not None:
            found.add(path)
    return frozenset(found)
