"""Source of a PyTorch module for a graph: ordinary Python that imports torch and nothing of archc.

`outline` recovers the definitions (model and blocks) of the graph's text, and each definition becomes a class.  The
template only lays out the parts that this module collects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import combinations

from archc.codegen.outline.alignment import ANY, OperatorKey, is_argument
from archc.codegen.outline.build import outline
from archc.codegen.outline.definitions import Local, OperatorStep, Outline
from archc.codegen.python_source import Activations, WriteBeside, compiled, copied, exported, library
from archc.codegen.templates import template
from archc.codegen.torch.activations import add_activations
from archc.codegen.torch.class_plan import ClassPlan, ModuleContext
from archc.codegen.torch.classes import add_classes
from archc.codegen.torch.formatting import docstring, has_name, lines_of, signature
from archc.codegen.torch.int8.integer_layers import IntegerLayers, find_integer_layers
from archc.codegen.torch.layer_classes import MASKED, LoweredOutline, add_layer_classes, module_of, owns
from archc.codegen.torch.memory_format import channels_last, image_outputs
from archc.codegen.torch.names import VARIABLES, PythonNames, class_name, is_reserved_member
from archc.codegen.torch.parameters import DECODABLE, weight_holders
from archc.codegen.torch.placement import Placement
from archc.codegen.torch.shape_comments import local_types
from archc.declaration.base import Operator
from archc.declaration.spelling import TorchHelper, literal
from archc.declaration.traits import DECODES
from archc.diagnostics import Diagnostics
from archc.ir.graph import Graph, Node, Scope
from archc.types.attributes import attributes
from archc.types.storage import Dense

LIBRARIES = ("int8", "weight_only", "packed", "sparse", "recurrent", "fake_quantized")
"""The modules of `archc.runtime` that an emitted module imports from its folder."""

_WITHIN = "masked"
"""The module of `archc.runtime` whose definitions are always copied into the emitted module."""

_LOAD = ("path: str | Path | None = None", 'device: str | torch.device = "cpu"')
_LOAD_STAGES = ("path: str | Path | None = None", "devices: Sequence[str | torch.device] = DEVICES")


def emit(
    graph: Graph,
    *,
    source_name: str,
    weights_name: str,
    compilation: str | None = None,
    write_beside: WriteBeside | None = None,
    activations: Activations = "functions",
) -> str:
    """The Python source of a module for a graph.

    Args:
        source_name: the name of the source text, for the module's docstring.
        weights_name: the name of the safetensors file beside the module.
        compilation: for a stage of a pipeline, an identifier of the compilation; None for a whole model.  An empty
            identifier is not written.
        write_beside: called for a module with encoded weights, which imports the classes of its layers from files.
            With None, or if it returns None, the module has copies of these classes, and needs no other source file.
        activations: "modules" for a module such as `nn.ReLU` at each use of an activation.

    Raises:
        ArchcError: a layer has the name of a member of `nn.Module`, or has weights that PyTorch code cannot decode.
    """
    _check(graph)
    images_last = compilation is None and channels_last(graph)
    outlined, context = _classes(graph, activations, image_outputs(graph) if images_last else ())
    (model,) = context.plans[outlined.model]
    plans = [made for definition in outlined.definitions for made in context.plans[definition]]
    classes = ["\n".join(_class(made, made is model)) for made in plans if not made.repeats]
    code = "\n".join(classes)
    placement = context.placement
    place = "" if placement.stages is None else _place(placement, model.name)
    files, within = _libraries(code, write_beside)
    helpers = template("archc.codegen.torch", "library.py.jinja").render(files=files) if files else ""
    helpers += copied({**within, _WITHIN: sorted(_masked_layers(graph))}, {"stages"} if place else ())
    helpers += template("archc.codegen.torch", "to_stage.py.jinja").render() if place else ""
    called = _called(graph, code)
    helpers += "".join(f"\n\n{helper.source}\n" for helper in called)
    code += helpers + place
    load = _LOAD_STAGES if place else _LOAD
    source = template("archc.codegen.torch", "module.py.jinja").render(
        docstring="\n".join(_module_docstring(model, graph, source_name)),
        uses=lambda name: has_name(code, name),
        abstract=[name for name in ("Callable", "Sequence") if has_name(code, name)],
        typing=[name for name in ("Any",) if has_name(code, name)],
        imports=_imports(called),
        compilation=compilation,
        place=place,
        channels_last=images_last,
        helpers=helpers,
        imports_files=bool(files),
        classes=classes,
        model=model.name,
        load="\n".join(signature("load", load, f" -> {model.name}", 0)),
        default_path="\n".join(lines_of("path = ", f"Path(__file__).with_name({literal(weights_name)})", 2)),
    )
    return compiled(source, graph.name)


def library_file(library: str) -> str:
    """The name of the file with the definitions of a runtime module."""
    return f"archc_{library}.py"


def _libraries(
    code: str, write_beside: WriteBeside | None
) -> tuple[list[tuple[str, str, list[str]]], dict[str, list[str]]]:
    """Write the files that classes import.

    Args:
        code: the source of the classes.

    Returns:
        For each file: the variable of the imported module, the statement that imports it, and the names that the
        classes use.  For each runtime module that has no file: the names that the classes use.
    """
    files, within = [], {}
    for module, used in _used(code).items():
        file = write_beside(library_file(module), library(module)) if used and write_beside is not None else None
        if file is not None:
            variable = f"archc_{module}"
            files.append((variable, "\n".join(lines_of(f"{variable} = ", f"beside({literal(file)})", 0)), used))
        else:
            within[module] = used
    return files, within


def _used(code: str) -> dict[str, list[str]]:
    """The names that classes use of each runtime module.

    A name that several modules export comes from the last one of those whose files are smallest together.
    """
    used = {module: {name for name in exported(module) if _uses(code, name)} for module in LIBRARIES}
    names = set().union(*used.values())
    complete = (
        modules
        for count in range(len(LIBRARIES) + 1)
        for modules in combinations(LIBRARIES, count)
        if names == set().union(*(used[module] for module in modules))
    )
    smallest = min(complete, key=lambda modules: sum(len(library(module)) for module in modules))
    homes = {name: module for module in smallest for name in used[module]}
    return {module: sorted(name for name in used[module] if homes.get(name) == module) for module in LIBRARIES}


def _uses(code: str, name: str) -> bool:
    """Return whether classes use a name of a runtime module; functions are called."""
    return has_name(code, name, called=name.islower())


def _called(graph: Graph, code: str) -> list[TorchHelper]:
    """The helper functions of operators that the classes call, sorted by name."""
    helpers = {helper.name: helper for node in graph.nodes() for helper in node.op.torch_helpers}
    return [helpers[name] for name in sorted(helpers) if has_name(code, name, called=True)]


def _masked_layers(graph: Graph) -> set[str]:
    """The classes of `archc.runtime.masked` that the layers of a graph need."""
    modules = (module_of(node, graph) for node in graph.nodes())
    return {module.function for module in modules if module is not None and module.function.startswith(MASKED)}


def _imports(helpers: Sequence[TorchHelper]) -> list[str]:
    """The import lines of helper functions."""
    names: dict[str, set[str]] = defaultdict(set)
    for helper in helpers:
        for module, _, name in (each.rpartition(".") for each in helper.imports):
            names[module].add(name)
    return [f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)]


def _place(placement: Placement, model: str) -> str:
    """The code that moves the stages of a model to their devices."""
    guests = placement.guests()
    parameters = (f"model: {model}", "devices: Sequence[str | torch.device]")
    return template("archc.codegen.torch", "placement.py.jinja").render(
        head="\n".join(signature("place", parameters, f" -> {model}", 0)),
        stages="\n".join(lines_of("STAGES = ", literal(tuple(placement.layers())), 0)),
        devices="\n".join(lines_of("DEVICES = ", literal(placement.devices()), 0)),
        guests="\n".join(lines_of("SHARED = ", literal(guests), 0)) if guests else "",
    )


def _classes(graph: Graph, activations: Activations, images: tuple[int, ...]) -> tuple[Outline, ModuleContext]:
    """The outline of a graph, and the context with the classes of its definitions.

    Args:
        activations: see `emit`.
        images: see `ModuleContext.images`.
    """
    outlined = outline(graph, key=_operator_key(graph))
    integer_layers = find_integer_layers(outlined, graph)

    def has_module(statement: OperatorStep) -> bool:
        return statement in integer_layers.modules or all(module_of(node, graph) for node in statement.nodes)

    lowered = add_layer_classes(outlined, graph, has_module)
    outlined = lowered.outline
    modules = _activation_modules(lowered, graph, integer_layers) if activations == "modules" else ()
    model_name = class_name(graph.name, outlined.model.doc)
    for definition in outlined.definitions:
        definition.name = definition.name if definition.name[:1].isupper() else class_name(definition.name)
    outlined.model.name = model_name
    names = PythonNames([*VARIABLES, model_name, *_masked_layers(graph)])
    context = ModuleContext(
        graph, local_types(outlined), lowered.own, integer_layers, names, Placement.of(graph), modules, images
    )
    for definition in outlined.definitions[:-1]:
        add_classes(definition, context)
    names.taken.discard(model_name)
    add_classes(outlined.model, context)
    return outlined, context


def _activation_modules(lowered: LoweredOutline, graph: Graph, integer_layers: IntegerLayers) -> set[OperatorStep]:
    """Give each activation a member of its own, and return the activations."""
    holders = {holder.path.partition(".")[0] for holder in weight_holders(graph)}
    found: set[OperatorStep] = set()
    for definition in lowered.outline.definitions:
        if definition not in lowered.own:
            found |= add_activations(definition, holders, integer_layers.computes)
    return found


def _operator_key(graph: Graph) -> OperatorKey:
    """The key of a node; nodes that share a statement must have equal keys.

    Numbers and other constants may differ, since the class of a block takes them as constructor arguments.  There are
    three exceptions:

    - A shared layer is one module with several calls, and its constructor arguments are fixed.  So if its uses differ
      in operators or types, they may not share a statement.
    - Layers without a module must have the same weights, because their code contains each weight.
    - Functions between int8 layers must be equal, since the kernel of a layer may absorb them.
    """
    changing = _changing_layers(graph)
    has_integers = any(node.op.has(DECODES) for node in graph.nodes())

    def key(node: Node, op: Operator) -> Hashable:
        weights = tuple(node.weights) if module_of(node, graph) is None else None
        if changing and any(scope.path in changing for scope in node.scope.ancestors()[1:]):
            return _fixed_part(node, op), weights
        if has_integers and node.name is None and type(op).torch_integers is not Operator.torch_integers:
            return op
        return _form(op), weights

    return key


def _changing_layers(graph: Graph) -> set[str]:
    """The paths of shared layers whose uses differ in operators or types."""
    uses: dict[str, set[Scope]] = defaultdict(set)
    for node in graph.nodes():
        for scope in node.scope.ancestors()[1:]:
            uses[scope.path].add(scope)
    shared = {path for path, scopes in uses.items() if len(scopes) > 1}
    contents: dict[Scope, list[Hashable]] = defaultdict(list)
    for node in graph.nodes() if shared else ():
        for scope in node.scope.ancestors()[1:]:
            if scope.path in shared:
                contents[scope].append(_fixed_part(node, node.op))
    first = {path: contents[next(iter(uses[path]))] for path in shared}
    return {scope.path for scope, content in contents.items() if content != first[scope.path]}


def _fixed_part(node: Node, op: Operator) -> Hashable:
    """The part of a node that must be equal in all uses of a shared layer."""
    return (_form(op) if node.weights else op), node.types


def _form(value: object) -> Hashable:
    """Key of an operator or an attribute, with a marker for each constant in it."""
    if isinstance(value, Operator):
        return tuple(_form(info.of(value)) for info in attributes(type(value)))
    if isinstance(value, tuple) and not _is_constant(value):
        return tuple(map(_form, value))
    return ANY if _is_constant(value) else value


def _is_constant(value: object) -> bool:
    """Return whether an argument can have a value: None, a number, a string, or a tuple of these."""
    return value is None or is_argument(value) or (isinstance(value, tuple) and all(map(_is_constant, value)))


def _check(graph: Graph) -> None:
    """Raise an error for weights, names and layers that PyTorch code cannot express."""
    found = Diagnostics()
    for weight in graph.weights.values():
        if not isinstance(weight.storage, DECODABLE):
            found.error(
                "not-emittable", f"emitted PyTorch cannot decode `{weight.path}`, which is stored as {weight.storage}"
            )
    for path, node in graph.layers().items():
        for segment in path.split("."):
            if is_reserved_member(segment):
                found.error(
                    "reserved-name",
                    f"`{path}` is no valid layer path in PyTorch: `nn.Module` has a member `{segment}`",
                    node.span,
                    help=f"rename it, for example to `{segment.strip('_') or 'layer'}_`",
                )
        if _trains_otherwise(node) and module_of(node, graph) is None:
            found.error(
                "not-emittable",
                f"`{path}` updates statistics in training, so PyTorch cannot share or encode its parameters",
                node.span,
                help=f"remove {_shared_or_encoded(node, graph)}: the layer then has its own dense parameters",
            )
    found.check()


def _shared_or_encoded(node: Node, graph: Graph) -> str:
    """The attributes that share or encode parameters of a layer, as text: `weight = ...`."""
    stored = graph.weights
    names = [name for name, path in node.weights.items() if not owns(node, name) or stored[path].storage != Dense()]
    return ", ".join(f"`{name} = ...`" for name in names)


def _trains_otherwise(node: Node) -> bool:
    """Return whether a layer updates buffers in training, which only its `torch.nn` module can do."""
    keeps = any(not node.op.parameters[name].trainable for name in node.weights)
    return keeps and type(node.op).torch_module is not Operator.torch_module


def _class(made: ClassPlan, is_model: bool) -> list[str]:
    """The lines of a class."""
    definition = made.definition
    lines = [f"class {made.name}({made.base}):"]
    lines += docstring(_class_docstring(made, is_model), 1)
    if made.attributes:
        lines += ["", *made.attributes]
    if made.init:
        lines += ["", *signature("__init__", ["self", *made.arguments.parameters()], "", 1)]
        lines += ["        super().__init__()", *made.init]
    parameters = [f"{name}: Tensor" for name in made.inputs]
    parameters += [f"{extra.name}: {'int' if extra.symbol is not None else 'Tensor'}" for extra in made.extras]
    count = len(definition.outputs)
    result = " -> Tensor" if count == 1 else f" -> tuple[{', '.join(['Tensor'] * count)}]"
    return [*lines, "", *signature("forward", ["self", *parameters], result, 1), *made.forward]


def _class_docstring(made: ClassPlan, is_model: bool) -> list[str]:
    definition = made.definition
    name = definition.scopes[0].definition
    if is_model:  # the docstring of the module has the comment of the model
        return [f"The model `{name}`."]
    title = _sentence(definition.doc) or f"The block `{name}`."
    shapes = made.shapes()
    return [title] if shapes is None else [title, shapes]


def _module_docstring(model: ClassPlan, graph: Graph, source_name: str) -> list[str]:
    definition = model.definition
    parameters = sum(weight.parameters for weight in graph.weights.values())
    title = _sentence(definition.doc) or f"The model `{graph.name}`."
    return docstring(
        [
            title,
            "Inputs:\n" + _listed(model, definition.inputs, model.inputs),
            "Outputs:\n" + _listed(model, definition.outputs, list(graph.outputs)),
            f"{parameters:,} parameters; generated by archc from {source_name}.",
        ],
        0,
    )


def _listed(model: ClassPlan, locals_: tuple[Local, ...], names: list[str]) -> str:
    return (
        "\n".join(f"    {model.comments.described(local, name)}" for local, name in zip(locals_, names)) or "    none"
    )


def _sentence(doc: str) -> str:
    doc = doc.strip()
    return doc if not doc or doc[-1] in ".!?" else f"{doc}."
