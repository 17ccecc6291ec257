"""Imports of files."""

from __future__ import annotations

from pathlib import Path

import pytest

import archc
from archc.diagnostics import ArchcError, Diagnostics
from archc.driver.parsing import open_module

BLOCK = "block B { input x: f32[N, D]  output x -> fc: linear(D) }\n"


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.arch"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "main.arch"


def fails(path: Path) -> list[str]:
    with pytest.raises(ArchcError) as failure:
        archc.parse(path)
    return [found.code for found in failure.value.diagnostics]


def model(imported: str, use: str) -> str:
    return f'import "{imported}"\nmodel m {{ input x: f32[N, 4]  output y = x -> {use} }}'


def test_a_mistake_within_the_library_is_shown_in_the_library(tmp_path: Path) -> None:
    text = 'import "std/attention.arch" as att\nmodel m { input x: f32[N, 5, 8]  output y = x -> att.SelfAttention(3) }'
    (tmp_path / "main.arch").write_text(text)
    with pytest.raises(ArchcError) as failure:
        archc.parse(tmp_path / "main.arch")
    sources = {found.span.source.name for found in failure.value.diagnostics if found.span is not None}
    assert sources == {"std/attention.arch"}


def test_a_block_of_another_file(tmp_path: Path) -> None:
    main = write(tmp_path, main=model("parts/b.arch", "one: b.B"), parts__b=BLOCK)
    assert set(archc.parse(main).weights) == {"one.fc.weight", "one.fc.bias"}
    main = write(tmp_path, main=model("parts/b.arch", "one: other.B").replace('.arch"', '.arch" as other', 1))
    assert set(archc.parse(main).weights) == {"one.fc.weight", "one.fc.bias"}


def test_a_path_is_relative_to_the_importing_file(tmp_path: Path) -> None:
    parts = {"parts__a": 'import "b.arch"\nblock A { input x: f32[N, D]  output x -> inner: b.B }', "parts__b": BLOCK}
    main = write(tmp_path, main=model("parts/a.arch", "one: a.A"), **parts)
    assert set(archc.parse(main).weights) == {"one.inner.fc.weight", "one.inner.fc.bias"}


def test_a_file_that_two_files_import_is_read_once(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main='import "a.arch"\nimport "b.arch"\n',
        a='import "common.arch"\n',
        b='import "common.arch"\n',
        common=BLOCK,
    )
    module = open_module(main, Diagnostics())
    assert module.imports["a"].imports["common"] is module.imports["b"].imports["common"]


def test_cycles(tmp_path: Path) -> None:
    assert fails(write(tmp_path, main=model("a.arch", "relu"), a='import "b.arch"', b='import "a.arch"')) == [
        "import-cycle"
    ]
    assert fails(write(tmp_path, main=model("main.arch", "relu"))) == ["import-cycle"]
    (tmp_path / "link.arch").symlink_to(tmp_path / "main.arch")
    assert fails(write(tmp_path, main=model("link.arch", "relu"))) == ["import-cycle"]


def test_a_long_chain_of_imports(tmp_path: Path) -> None:
    files = {f"f{k}": f'import "f{k + 1}.arch"' for k in range(100)}
    assert fails(write(tmp_path, main=model("f0.arch", "relu"), **files)) == ["nesting-too-deep"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("missing.arch", "import-not-found"),
        ("x" * 5000 + ".arch", "import-not-found"),
        ("a\\u{0}b.arch", "import-not-found"),
        ("parts", "import-not-found"),
        ("/etc/passwd", "import-absolute"),
        ("secret", "import-not-arch"),
        ("parts/../secret", "import-not-arch"),
        ("disguised.arch", "import-not-arch"),
    ],
)
def test_refused_imports(tmp_path: Path, path: str, code: str) -> None:
    (tmp_path / "secret").write_text("root:x:0:0")
    (tmp_path / "disguised.arch").symlink_to(tmp_path / "secret")
    assert fails(write(tmp_path, main=model(path, "relu"), parts__b=BLOCK)) == [code]


def test_duplicate_names(tmp_path: Path) -> None:
    assert fails(write(tmp_path, main=BLOCK + BLOCK + model("b.arch", "relu"), b=BLOCK)) == ["duplicate-name"]
    twice = 'import "b.arch"\nimport "parts/b.arch"\nmodel m { input x: f32[N]  output y = x -> relu }'
    assert fails(write(tmp_path, main=twice, b=BLOCK, parts__b=BLOCK)) == ["duplicate-name"]


def test_an_absolute_path_when_it_is_allowed(tmp_path: Path) -> None:
    write(tmp_path, b=BLOCK)
    main = write(tmp_path, main=model(str(tmp_path / "b.arch"), "one: b.B"))
    assert "one.fc.weight" in archc.parse(main, allow_absolute_imports=True).weights


def test_a_mistake_in_an_imported_file_is_told_there(tmp_path: Path) -> None:
    main = write(tmp_path, main=model("b.arch", "one: b.B"), b=BLOCK.replace("linear", "linaer"))
    with pytest.raises(ArchcError) as failure:
        archc.parse(main)
    (found,) = failure.value.diagnostics
    assert found.code == "unknown-operator" and found.span is not None
    assert Path(found.span.source.name).name == "b.arch"
