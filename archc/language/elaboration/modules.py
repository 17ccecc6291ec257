"""Modules: definitions, derived models, pipelines, devices and imports of one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from archc.diagnostics import Diagnostics, Note, Source, did_you_mean
from archc.frozen_dataclass import frozen_by_identity
from archc.language.syntax import tree

MOST_DERIVED = 200
"""Limit on the derived models of one file: `archc check` builds a model for each."""


@dataclass(eq=False)
class Module:
    """Contents of one file.

    Attributes:
        definitions: the blocks and models, including derived models, by name.
        derived: the defaults of derived models, by name.
        pipelines: the pipelines, by name.
        devices: the `devices` statements, by name.
        imports: the imported modules, by the names that the file gives them.
    """

    source: Source
    definitions: dict[str, tree.Definition] = field(default_factory=dict)
    derived: dict[str, DerivedModel] = field(default_factory=dict)
    pipelines: dict[str, tree.PipelineStatement] = field(default_factory=dict)
    devices: dict[str, tree.DevicesStatement] = field(default_factory=dict)
    imports: dict[str, Module] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return [name for name, item in self.definitions.items() if item.kind == "model"]

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks."""
        return [name for name, item in self.definitions.items() if item.kind == "block"]

    def model(self, name: str) -> tree.Definition | None:
        """Model of this name; None if the file does not define it."""
        found = self.definitions.get(name)
        return found if found is not None and found.kind == "model" else None


@frozen_by_identity
class Default:
    """Default of an attribute in a derivation, and the file that defines the names in its expression."""

    value: tree.Expression
    module: Module


@frozen_by_identity
class DerivedModel:
    """A derived model: its base with other defaults, as in `model bert_large = bert(width = 1024)`.

    In `Module.definitions`, its definition is a copy of the base's definition with the name of the derived model.

    Attributes:
        home: the file of the model that starts the chain of derivations and is not derived itself.
        defaults: by attribute, the defaults of all derivations in the chain; later derivations override earlier ones.
    """

    home: Module
    defaults: Mapping[str, Default]


# Derived models -------------------------------------------------------------------------------------------


def derive(module: Module, derivations: Mapping[str, tree.Derivation], diagnostics: Diagnostics) -> None:
    """Add the derived models of a file to its definitions; a wrong base or argument is reported."""
    if len(derivations) > MOST_DERIVED:
        diagnostics.error(
            "too-many-models",
            f"the file derives {len(derivations):,} models; the limit is {MOST_DERIVED}",
            list(derivations.values())[MOST_DERIVED].name.span,
            help="give attributes on the command line instead: `--set width=1024`",
        )
        return
    _Deriver(module, derivations, diagnostics).add_all()


class _Deriver:
    def __init__(self, module: Module, derivations: Mapping[str, tree.Derivation], diagnostics: Diagnostics):
        self.module = module
        self.waiting = dict(derivations)
        self.failed: set[str] = set()
        self.diagnostics = diagnostics

    def add_all(self) -> None:
        while self.waiting:
            chain = self._chain(next(iter(self.waiting.values())))
            for name in chain:
                del self.waiting[name]
            for derivation in reversed(chain.values()):
                self._add(derivation)
        in_order = sorted(self.module.definitions.items(), key=lambda item: item[1].name.span.start)
        self.module.definitions = dict(in_order)

    def _chain(self, derivation: tree.Derivation) -> dict[str, tree.Derivation]:
        """A derivation and its bases, by name, up to the first base that is not a pending derivation."""
        chain: dict[str, tree.Derivation] = {}
        waiting: tree.Derivation | None = derivation
        while waiting is not None:
            name = waiting.name.name
            if name in chain:
                names = list(chain)
                cycle = names[names.index(name) :]
                self.failed.update(cycle)
                self.diagnostics.error(
                    "derivation-cycle",
                    f"the model `{name}` is derived from itself",
                    waiting.name.span,
                    notes=["the cycle is " + " -> ".join([*cycle, name])],
                    help="write one of them out: `model name(...) { ... }`",
                )
                break
            chain[name] = waiting
            waiting = self.waiting.get(waiting.base.name) if isinstance(waiting.base, tree.Name) else None
        return chain

    def _add(self, derivation: tree.Derivation) -> None:
        name = derivation.name.name
        found = self._base(derivation) if name not in self.failed else None
        if found is None:
            self.failed.add(name)
            return
        definition, module = found
        known = [attribute.name.name for attribute in definition.attributes]
        for argument in derivation.arguments:
            self._check(argument, definition, known)
        given = {
            argument.name: Default(argument.value, self.module)
            for argument in derivation.arguments
            if argument.name is not None and not isinstance(argument.value, tree.SliceExpression)
        }
        base = module.derived.get(definition.name.name, DerivedModel(module, {}))
        self.module.derived[name] = DerivedModel(base.home, {**base.defaults, **given})
        self.module.definitions[name] = replace(definition, name=derivation.name, doc=derivation.doc or definition.doc)

    def _base(self, derivation: tree.Derivation) -> tuple[tree.Definition, Module] | None:
        """Return the base of a derivation and its file; report an invalid base and return None."""
        base, module = derivation.base, self.module
        written = base.span.text
        if isinstance(base, tree.Name):
            definition = module.definitions.get(base.name)
            if base.name in self.failed:
                return None
        else:
            alias = base.value.name if isinstance(base.value, tree.Name) else ""
            module = module.imports.get(alias, module)
            definition = module.definitions.get(base.name) if alias in self.module.imports else None
        if definition is None:
            if not self.diagnostics.errors:  # a definition or import with an error may define the model
                imports = self.module.imports.items()
                imported = [f"{alias}.{name}" for alias, other in imports for name in other.models]
                known = [*self.module.models, *imported]
                self.diagnostics.error(
                    "unknown-model",
                    f"unknown model `{written}`",
                    base.span,
                    help=did_you_mean(written, known)
                    or "derive from a model of this file, or of an imported file: `other.model`",
                )
            return None
        if definition.kind != "model":
            self.diagnostics.error(
                "not-a-model",
                f"a model is derived from a model, and `{written}` is a block",
                base.span,
                notes=[Note("it is defined here", definition.name.span)],
                help="write a model that uses the block: `model name { ... }`",
            )
            return None
        return definition, module

    def _check(self, argument: tree.Argument, definition: tree.Definition, known: list[str]) -> None:
        base = definition.name.name
        if argument.name is None:
            self.diagnostics.error(
                "positional-attribute",
                f"attributes of `{base}` are given by name in a derivation",
                argument.span,
                help=f"write a name, such as `{known[0]} = {argument.span.text}`"
                if known
                else f"`{base}` has no attributes",
            )
        elif argument.name not in known:
            self.diagnostics.error(
                "unknown-attribute",
                f"the model `{base}` has no attribute `{argument.name}`",
                argument.span,
                help=did_you_mean(argument.name, known)
                or (
                    f"its attributes are {', '.join(f'`{own}`' for own in known)}" if known else "it has no attributes"
                ),
            )
        elif isinstance(argument.value, tree.SliceExpression):
            self.diagnostics.error("wrong-type", "a slice cannot be an attribute", argument.value.span)
