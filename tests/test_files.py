import errno
import json
import os
import pickle
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skillrl.errors import DamagedFileError
from skillrl.files import (
    load_moments,
    load_state,
    moments,
    read_json,
    read_tensors,
    write_atomically,
    write_json,
    write_tensors,
)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full after ``size`` bytes of a file, as the operating system reports it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def safetensors_with_header(header: bytes, body: bytes = b"") -> bytes:
    """A file laid out by hand: the header's length in 8 bytes, the header, the data."""
    return struct.pack("<Q", len(header)) + header + body


def test_a_json_file_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "value.json"
    value = {"name": "skill", "numbers": [1, 2.5, None], "nested": {"a": True}}
    write_json(path, value)
    assert read_json(path) == value
    # A person can read it: one value a line, indented.
    assert path.read_text(encoding="utf-8").splitlines()[1] == '  "name": "skill",'
    assert list(path.parent.iterdir()) == [path]


def test_json_that_no_other_program_reads_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"", "cannot be read as JSON"),
        (b'{"a": 1', "cannot be read as JSON"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        (pickle.dumps({"a": 1}), "cannot be read as JSON"),
        (b"[1, 2]", "should hold a JSON object, not list"),
        (b"null", "should hold a JSON object, not NoneType"),
        (b"[" * 200_000, "cannot be read as JSON"),  # deeper than Python's stack
        (b'{"a": ' + b"9" * 10_000 + b"}", "cannot be read as JSON"),
    ],
)
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=reason) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    for read in (read_json, read_tensors):
        with pytest.raises(DamagedFileError, match=str(tmp_path)):
            read(tmp_path)


def test_tensors_are_written_and_read_to_the_last_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 4, generator=generator)
    tensors: dict[str, torch.Tensor | np.ndarray] = {
        "weight": weight,
        "a view of the same memory": weight[1:3].T,
        "float64": torch.tensor(1e-300, dtype=torch.float64),
        "numpy": np.arange(6, dtype=np.int64).reshape(2, 3),
        "bytes": np.full((2, 3, 3), 255, np.uint8),
        "booleans": np.array([True, False]),
        "words": np.array([2**64 - 1], np.uint64),
        "empty": np.empty((0, 3), np.float32),
    }
    description = {"format": "test", "numbers": [1, 2], "nested": {"a": None}}
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, tensors, description)
    read, read_description = read_tensors(path)
    assert read_description == description
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = torch.as_tensor(tensor)
        assert read[name].dtype == expected.dtype
        assert torch.equal(read[name], expected)
    # Nothing of the larger tensor lies behind the view.
    assert read["a view of the same memory"].untyped_storage().nbytes() == 4 * 2 * 4


def good_file(path: Path) -> bytes:
    write_tensors(path, {"weight": torch.arange(12.0)}, {"format": "test"})
    return path.read_bytes()


def test_a_file_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "tensors.safetensors"
    content = good_file(path)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedFileError, match=r"tensors\.safetensors"):
            read_tensors(path)


@pytest.mark.parametrize(
    "content",
    [
        b"not tensors at all",
        pickle.dumps({"weight": [1.0]}),
        safetensors_with_header(b"{}"),
        safetensors_with_header(b"null"),
        safetensors_with_header(b"\xff" * 20),
        # A header that claims to be larger than any memory.
        struct.pack("<Q", 2**63) + b"{}",
        # A tensor that claims to be larger than the file.
        safetensors_with_header(
            b'{"__metadata__": {"skillrl": "{}"}, "weight": {"dtype": "F32", "shape": [1000000000'
            b'000], "data_offsets": [0, 4000000000000]}}'
        ),
        # A tensor that reaches out of the file.
        safetensors_with_header(
            b'{"__metadata__": {"skillrl": "{}"}, "weight": {"dtype": "F32", "shape": [1], '
            b'"data_offsets": [-4, 0]}}'
        ),
    ],
)
def test_what_is_no_safetensors_file_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tensors.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"tensors\.safetensors"):
        read_tensors(path)


def test_a_pickle_is_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "code was run"),)

    path = tmp_path / "tensors.safetensors"
    torch.save({"weight": Bomb()}, path)
    with pytest.raises(DamagedFileError, match=r"tensors\.safetensors"):
        read_tensors(path)
    path.write_bytes(pickle.dumps(Bomb()))
    for read in (read_json, read_tensors):
        with pytest.raises(DamagedFileError, match=r"tensors\.safetensors"):
            read(path)
    assert not (tmp_path / "code was run").exists()


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "was not written by skillrl"),
        ({"format": "pt"}, "was not written by skillrl"),
        ({"skillrl": "{"}, "is damaged"),
        ({"skillrl": "[1]"}, "its description is not a JSON object"),
        ({"skillrl": "[" * 200_000}, "is damaged"),
    ],
)
def test_a_file_without_a_description_is_damaged(
    tmp_path: Path, metadata: dict[str, str] | None, reason: str
) -> None:
    path = tmp_path / "tensors.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(DamagedFileError, match=reason) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.write_text("old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("half of the n")
        seen.append((temporary.parent, temporary.suffix, path.read_text()))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, write)
    assert seen == [(tmp_path, ".json", "old")]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_tensors(tmp_path: Path) -> None:
    path = tmp_path / "tensors.safetensors"
    content = good_file(path)
    with file_size_limit(1_000), pytest.raises(OSError, match=r"tensors\.safetensors"):
        write_tensors(path, {"weight": torch.zeros(10_000)}, {"format": "test"})
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_json(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with file_size_limit(1_000), pytest.raises(OSError, match=r"value\.json"):
        write_json(path, {"a": "b" * 10_000})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})

    def write(temporary: Path) -> None:
        temporary.write_text('{"a": ')
        assert read_json(path) == {"a": 1}
        temporary.write_text(json.dumps({"a": 2}))

    write_atomically(path, write)
    assert read_json(path) == {"a": 2}


def linear() -> torch.nn.Linear:
    with torch.device("meta"):
        return torch.nn.Linear(2, 1)


GOOD = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}


def test_a_state_is_loaded_into_an_empty_module() -> None:
    module = linear()
    load_state(module, GOOD, Path("x"))
    # 1·10 + 2·100 + 3
    assert module(torch.tensor([10.0, 100.0])).item() == 213.0
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"weight": GOOD["weight"]}, "bias"),
        ({**GOOD, "extra": torch.zeros(1)}, "extra"),
        ({**GOOD, "extra": torch.zeros(1).to(torch.float8_e4m3fn)}, "extra"),
        ({**GOOD, "bias": torch.zeros(2)}, "bias"),
        ({**GOOD, "weight": torch.zeros(2, 1)}, "weight"),
        ({**GOOD, "bias": torch.tensor([float("nan")])}, "bias holds values that are not finite"),
        ({**GOOD, "bias": torch.tensor([float("-inf")])}, "bias holds values that are not finite"),
        ({**GOOD, "bias": torch.tensor([3])}, "bias"),
        ({**GOOD, "bias": torch.tensor([3.0], dtype=torch.float64)}, "bias"),
        ({**GOOD, "bias": torch.tensor([3.0], dtype=torch.float16)}, "bias"),
        ({**GOOD, "bias": torch.tensor([3.0]).to(torch.float8_e4m3fn)}, "bias"),
        ({**GOOD, "bias": torch.tensor([True])}, "bias"),
    ],
)
def test_a_state_that_does_not_fit_is_damaged(
    tensors: dict[str, torch.Tensor], reason: str
) -> None:
    with pytest.raises(DamagedFileError, match=reason) as caught:
        load_state(linear(), tensors, Path("some.safetensors"))
    assert "some.safetensors" in str(caught.value)


def test_moments_are_those_of_the_same_parameters() -> None:
    def adam(*sizes: int) -> torch.optim.Adam:
        parameters = [torch.nn.Parameter(torch.ones(size)) for size in sizes]
        optimizer = torch.optim.Adam(parameters)
        torch.stack([parameter.sum() ** 2 for parameter in parameters]).sum().backward()
        optimizer.step()
        return optimizer

    kept = moments(adam(2, 3))
    assert set(kept) == {
        f"{n}.{name}" for n in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")
    }
    again = adam(2, 3)
    again.step()
    load_moments(again, kept)
    assert {name: tensor.tolist() for name, tensor in moments(again).items()} == {
        name: tensor.tolist() for name, tensor in kept.items()
    }
    load_moments(again, {})
    assert moments(again) == {}
    for sizes, message in (((2,), "other parameters"), ((3, 2), "the shapes")):
        with pytest.raises(ValueError, match=message):
            load_moments(adam(*sizes), kept)


def test_tensors_that_share_memory_are_saved_each_by_itself(tmp_path: Path) -> None:
    array, tensor = np.arange(6.0).reshape(2, 3), torch.arange(4.0)
    tensors: dict[str, np.ndarray | torch.Tensor] = {
        "a": array,
        "b": array,
        "turned": array.T,
        "part": array[1:],
        "c": tensor,
        "d": tensor,
        "view": tensor[1:],
    }
    write_tensors(tmp_path / "tensors", tensors)
    read, _ = read_tensors(tmp_path / "tensors")
    for name, values in tensors.items():
        np.testing.assert_array_equal(read[name], values)


def test_arrays_are_not_copied_before_they_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, seen = np.arange(6.0).reshape(2, 3), []

    def kept(tensors: dict[str, torch.Tensor], metadata: Any) -> bytes:
        seen.append(tensors["whole"].numpy())
        return b""

    monkeypatch.setattr("skillrl.files.save", kept)
    write_tensors(tmp_path / "arrays", {"whole": array, "turned": array.T})
    assert np.shares_memory(seen[0], array)
