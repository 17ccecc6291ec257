"""Comparison of a weights file with a graph: all mismatches are reported together, each once."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest

from archc.diagnostics import ArchcError, Diagnostic, Diagnostics, Source
from archc.weights.match import match
from archc.weights.rename import rename
from archc.weights.rename_rules import parse_rules
from archc.weights.tensor import CHUNK_BYTES, ArrayTensor, ComputedTensor, LazyTensor

EXPECTED = {"fc1.weight": ((2, 3), "f32"), "fc1.bias": ((2,), "f32"), "table": ((4,), "i64")}


def sound() -> dict[str, LazyTensor]:
    return {
        "table": ArrayTensor(np.arange(4)),
        "fc1.bias": ArrayTensor(np.ones(2, np.float32)),
        "fc1.weight": ArrayTensor(np.ones((2, 3), np.float32)),
    }


def mismatches(given: dict[str, LazyTensor], expected: object = None, optional: object = ()) -> list[Diagnostic]:
    with pytest.raises(ArchcError) as caught:
        match(EXPECTED if expected is None else expected, given, optional=optional)  # type: ignore[arg-type]
    return list(caught.value.diagnostics)


def test_a_sound_file_comes_back_in_the_order_of_the_graph() -> None:
    given = sound()
    matched = match(EXPECTED, given)
    assert list(matched) == list(EXPECTED)
    assert all(matched[path] is given[path] for path in EXPECTED)


def test_every_mismatch_is_reported_in_one_go() -> None:
    given = {
        "fc1.weight": ArrayTensor(np.ones((3, 2), np.float32)),
        "fc1.bias": ArrayTensor(np.array([1, np.nan], np.float32)),
        "other": ArrayTensor(np.ones(5, np.float32)),
        "table": ArrayTensor(np.ones(4, np.float32)),
    }
    found = mismatches(given, {**EXPECTED, "mean": ((1,), "f32")})
    assert {diagnostic.code: diagnostic.message for diagnostic in found} == {
        "weights-missing": "the file has no weight `mean`",
        "weights-surplus": "the file has a weight `other`, which is not in the model",
        "weights-shape": "weight `fc1.weight` must be f32[2, 3], got f32[3, 2] in the file",
        "weights-dtype-mismatch": "weight `table` must be i64, got f32 in the file",
        "weights-not-finite": "weight `fc1.bias` is nan at [1]",
    }
    assert len(found) == 5


def test_a_misspelt_name_is_reported_once_with_the_likely_one() -> None:
    given = sound()
    given["fc1.wieght"] = given.pop("fc1.weight")
    (diagnostic,) = mismatches(given)
    assert diagnostic.code == "weights-missing"
    assert "`fc1.weight`" in diagnostic.message
    assert diagnostic.help is not None
    assert diagnostic.help == "write `fc1.wieght -> fc1.weight` into a file and give it with `--rename FILE`"


def test_only_tensors_of_the_right_shape_are_suggested() -> None:
    given = {"embed.weight": ArrayTensor(np.ones((50, 16), np.float32))}
    given["out.weight"] = given["wte.wieght"] = ArrayTensor(np.ones((5, 16), np.float32))
    missing, *surplus = mismatches({**given}, {"wte.weight": ((50, 16), "f32")})
    assert missing.help == "write `embed.weight -> wte.weight` into a file and give it with `--rename FILE`"
    assert [one.code for one in surplus] == ["weights-surplus"] * 2
    assert surplus[0].help == "to drop it, write `out.weight -> nothing` into a file and give it with `--rename FILE`"
    del given["embed.weight"]
    missing, *surplus = mismatches({**given}, {"wte.weight": ((50, 16), "f32")})
    assert missing.help is None and len(surplus) == 2


def test_one_of_several_tensors_of_the_right_shape_is_an_example() -> None:
    given: dict[str, LazyTensor] = {name: ArrayTensor(np.ones(1, np.float32)) for name in ("one", "other")}
    missing, *surplus = mismatches(given, {"w": ((1,), "f32")})
    assert missing.help is not None and missing.help.startswith("if it is `one` in the file, write `one -> w` into")
    assert len(surplus) == 2


def test_a_name_that_no_rule_can_spell_is_renamed_in_the_file() -> None:
    given: dict[str, LazyTensor] = {"a b": ArrayTensor(np.ones(1, np.float32))}
    (missing,) = mismatches(given, {"w": ((1,), "f32")})
    assert missing.help == "rename `a b` to `w` in the file"


def test_a_rule_for_one_name_precedes_the_rule_for_a_prefix() -> None:
    given = {"module." + path: tensor for path, tensor in sound().items()}
    given["module.fc1.wieght"] = given.pop("module.fc1.weight")
    given["step"] = ArrayTensor(np.ones(3, np.float32))
    found = mismatches(given)
    helps = [one.help or "" for one in found]
    assert "`module.* -> *`" in helps[0]
    assert helps[1] == "write `module.fc1.wieght -> fc1.weight` above `module.* -> *`"
    assert helps[2] == "to drop it, write `step -> nothing` above `module.* -> *`"
    rules = parse_rules(Source("\n".join([*(re.findall("write `(.*?)`", "\n".join(helps[1:]))), "module.* -> *"])))
    assert list(match(EXPECTED, rename(given, rules, EXPECTED))) == list(EXPECTED)


def test_a_transposed_weight_gives_the_rule_that_transposes_it() -> None:
    given = {**sound(), "fc1.weight": ArrayTensor(np.ones((3, 2), np.float32))}
    (diagnostic,) = mismatches(given)
    rule = re.search("write `(.*?)`", diagnostic.help or "")
    assert rule is not None and rule[1] == "transpose(fc1.weight) -> fc1.weight"
    assert list(match(EXPECTED, rename(given, parse_rules(Source(rule[1])), EXPECTED))) == list(EXPECTED)


@pytest.mark.parametrize(
    ("file", "model"), [("module.", ""), ("", "net."), ("model.body.", "")], ids=["wrapped", "bare", "deeper"]
)
@pytest.mark.parametrize("others", [(), ("fc1.num_batches_tracked",), ("head.weight", "fc2.weight", "fc3.weight")])
def test_a_prefix_is_reported_once_with_the_rule_that_removes_it(
    file: str, model: str, others: tuple[str, ...]
) -> None:
    tensors = {**sound(), **{name: ArrayTensor(np.ones(1, np.float32)) for name in others}}
    given = {file + path: tensor for path, tensor in tensors.items()}
    expected = {model + path: wanted for path, wanted in EXPECTED.items()}
    first, *rest = mismatches(given, expected)
    assert f"begin with `{file or model}`" in first.message and first.help is not None
    assert {one.code for one in rest} <= {"weights-surplus"} and len(rest) == len(others)
    rule = re.search("line `(.*?)`", first.help)
    assert rule is not None
    renamed = rename(given, parse_rules(Source(rule[1])), expected)
    assert list(match(expected, renamed, optional={model + name for name in others})) == list(expected)


def test_the_report_on_an_unrelated_file_is_limited() -> None:
    expected = {f"layers.{i}.weight": ((1,), "f32") for i in range(500)}
    given = {f"エ{i}": ArrayTensor(np.ones(1, np.float32)) for i in range(700)}
    found = mismatches(given, expected)
    assert len(found) == 42
    assert {"480 more weights are missing", "680 more weights are not in the model"} <= {d.message for d in found}


def test_optional_weights_may_be_missing_or_surplus() -> None:
    given = sound()
    del given["table"]
    given["bn.num_batches_tracked"] = ArrayTensor(np.array(3))
    matched = match(EXPECTED, given, optional={"table", "bn.num_batches_tracked"})
    assert list(matched) == ["fc1.weight", "fc1.bias"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floats_are_converted_lazily_and_with_a_remark(dtype: type) -> None:
    given = {**sound(), "fc1.bias": ArrayTensor(np.array([0.1, -3], dtype))}
    remarks = Diagnostics()
    converted = match(EXPECTED, given, remarks=remarks)["fc1.bias"]
    assert isinstance(converted, ComputedTensor)
    assert converted.numpy().dtype == np.float32
    assert converted.numpy().tolist() == [float(np.float32(dtype(0.1))), -3]
    (remark,) = remarks.warnings
    assert remark.code == "weights-converted"
    assert "`fc1.bias`" in remark.message


@pytest.mark.parametrize(
    ("expected", "given"),
    [("f32", np.int32), ("i64", np.float32), ("i64", np.int32), ("f16", np.float32), ("bool", np.uint8)],
)
def test_other_dtypes_are_refused(expected: str, given: type) -> None:
    (diagnostic,) = mismatches({"w": ArrayTensor(np.ones(2, given))}, {"w": ((2,), expected)})
    assert diagnostic.code == "weights-dtype-mismatch"


def test_a_double_too_large_for_a_float_is_infinite() -> None:
    (diagnostic,) = mismatches({"w": ArrayTensor(np.array([[1.0, 1e300]]))}, {"w": ((1, 2), "f32")})
    assert diagnostic.message == "weight `w` is inf at [0, 1]"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_the_first_bad_element_is_found_beyond_the_first_chunk(value: float, dtype: type) -> None:
    columns = 1000
    rows = CHUNK_BYTES // columns
    array = np.zeros((rows, columns), dtype)
    array[rows - 2, 7] = array[rows - 1, 3] = value
    name = "f32" if dtype is np.float32 else "bf16"
    (diagnostic,) = mismatches({"w": ArrayTensor(array)}, {"w": ((rows, columns), name)})
    assert diagnostic.message == f"weight `w` is {value} at [{rows - 2}, 7]"


def test_nothing_of_the_wrong_shape_is_read() -> None:
    def explode() -> np.ndarray:
        raise AssertionError("read")

    given = {"w": ComputedTensor((10**9, 10**9), "f32", explode)}
    assert [diagnostic.code for diagnostic in mismatches(given, {"w": ((2,), "f32")})] == ["weights-shape"]
