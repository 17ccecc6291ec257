"""Modules: definitions, derived models, pipelines, devices and imports of one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from archc.diagnostics import Diagnostics, Note, Source, did_you_mean
from archc.language.syntax import tree

MOST_DERIVED = 200
"""Limit on the derived models of one file: `archc check` builds a whole model for each line that derives one."""


@dataclass(eq=False)
class Module:
    """One file: its own definitions by name, and the modules that it imports by the names it gives them.

    A derived model is among the definitions too; what it has besides is in `derived`.
    """

    source: Source
    definitions: dict[str, tree.Definition] = field(default_factory=dict)
    derived: dict[str, DerivedModel] = field(default_factory=dict)
    pipelines: dict[str, tree.PipelineStatement] = field(default_factory=dict)
    devices: dict[str, tree.DevicesStatement] = field(default_factory=dict)
    imports: dict[str, Module] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        return [name for name, item in self.definitions.items() if item.kind == "model"]

    @property
    def blocks(self) -> list[str]:
        return [name for name, item in self.definitions.items() if item.kind == "block"]

    def model(self, name: str) -> tree.Definition | None:
        """The model of this name; None where the file has none."""
        found = self.definitions.get(name)
        return found if found is not None and found.kind == "model" else None


@dataclass(frozen=True, eq=False)
class Default:
    """The default that a derived model gives an attribute, and the file whose names the expression sees."""

    value: tree.Expression
    module: Module


@dataclass(frozen=True, eq=False)
class DerivedModel:
    """What a derived model has besides its definition, which is that of its base under another name.

    Attributes:
        home: the file that the text of its base stands in.
        defaults: those given on the way from there, by attribute.
    """

    home: Module
    defaults: Mapping[str, Default]


# DerivedModel models -----------------------------------------------------------------------------------------


def derive(module: Module, derivations: Mapping[str, tree.Derivation], diagnostics: Diagnostics) -> None:
    """Enter the derived models of a file among its definitions; those whose base is wrong are reported."""
    if len(derivations) > MOST_DERIVED:
        diagnostics.error(
            "too-many-models",
            f"{len(derivations):,} models are derived in this file; the limit is {MOST_DERIVED}",
            list(derivations.values())[MOST_DERIVED].name.span,
            help="give attributes on the command line: `--set width=1024`",
        )
        return
    _Deriver(module, derivations, diagnostics).all()


class _Deriver:
    def __init__(self, module: Module, derivations: Mapping[str, tree.Derivation], diagnostics: Diagnostics):
        self.module = module
        self.waiting = dict(derivations)
        self.failed: set[str] = set()
        self.diagnostics = diagnostics

    def all(self) -> None:
        while self.waiting:
            chain = self._chain(next(iter(self.waiting.values())))
            for name in chain:
                del self.waiting[name]
            for derivation in reversed(chain.values()):
                self._one(derivation)
        in_order = sorted(self.module.definitions.items(), key=lambda item: item[1].name.span.start)
        self.module.definitions = dict(in_order)

    def _chain(self, derivation: tree.Derivation) -> dict[str, tree.Derivation]:
        """A derivation and those that it waits for, each behind what is derived from it."""
        chain: dict[str, tree.Derivation] = {}
        waiting: tree.Derivation | None = derivation
        while waiting is not None:
            name = waiting.name.name
            if name in chain:
                names = list(chain)
                circle = names[names.index(name) :]
                self.failed.update(circle)
                self.diagnostics.error(
                    "derivation-cycle",
                    f"deriving the model `{name}` leads back to itself",
                    waiting.name.span,
                    notes=["the way is " + " -> ".join([*circle, name])],
                    help="one of them must be written out: `model name(...) { ... }`",
                )
                break
            chain[name] = waiting
            waiting = self.waiting.get(waiting.base.name) if isinstance(waiting.base, tree.Name) else None
        return chain

    def _one(self, derivation: tree.Derivation) -> None:
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
        """The model that another is derived from, and the file that has it; None where that was reported."""
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
            if not self.diagnostics.errors:  # a broken head or import may be what defines it
                imports = self.module.imports.items()
                imported = [f"{alias}.{name}" for alias, other in imports for name in other.models]
                known = [*self.module.models, *imported]
                self.diagnostics.error(
                    "unknown-model",
                    f"there is no model `{written}` to derive from",
                    base.span,
                    help=did_you_mean(written, known) or "a model of this file, or of an imported one: `other.model`",
                )
            return None
        if definition.kind != "model":
            self.diagnostics.error(
                "not-a-model",
                f"`{written}` is a block; a model is derived from a model",
                base.span,
                notes=[Note("it is defined here", definition.name.span)],
                help="write a model that uses the block",
            )
            return None
        return definition, module

    def _check(self, argument: tree.Argument, definition: tree.Definition, known: list[str]) -> None:
        base = definition.name.name
        if argument.name is None:
            self.diagnostics.error(
                "positional-attribute",
                f"what the model changes of `{base}` is given by name",
                argument.span,
                help=f"for instance `{known[0]} = {argument.span.text}`" if known else f"`{base}` has no attributes",
            )
        elif argument.name not in known:
            self.diagnostics.error(
                "unknown-attribute",
                f"the model `{base}` has no attribute `{argument.name}`",
                argument.span,
                help=did_you_mean(argument.name, known)
                or (f"it has {', '.join(f'`{own}`' for own in known)}" if known else "it has none"),
            )
        elif isinstance(argument.value, tree.SliceExpression):
            self.diagnostics.error("wrong-type", "a slice is no attribute", argument.value.span)
