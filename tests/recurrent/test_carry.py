from pathlib import Path

import numpy as np
import pytest
import torch

from skillrl.errors import DamagedFileError, DivergedError, InvalidValueError
from skillrl.files import write_tensors
from skillrl.recurrent import LRU, Carry, RecurrentStack


def carry_of(batch: int) -> Carry:
    torch.manual_seed(batch)
    return LRU(3, 4)(torch.randn(6, batch, 3))[1]


def assert_equal(first: Carry, second: Carry) -> None:
    assert [*first] == [*second]
    for name, value in first.items():
        assert torch.equal(value, second[name])


def test_rows_are_cut_and_put_together() -> None:
    carry = carry_of(5)
    parts = [carry.rows(slice(0, 2)), carry.rows(torch.tensor([False, False, True, True, True]))]
    assert [part.batch_size for part in parts] == [2, 3]
    assert_equal(Carry.concatenate(parts), carry)
    assert_equal(carry.rows(torch.tensor([3, 0])), carry.rows([3, 0]))
    assert_equal(carry.rows(np.int64(3)), carry.rows([3]))


def test_files_and_dtypes(tmp_path: Path) -> None:
    carry = carry_of(5)
    carry.save(tmp_path / "carry.safetensors")
    loaded = Carry.load(tmp_path / "carry.safetensors")
    assert {*loaded} == {*carry}
    for name, value in carry.items():
        assert torch.equal(value, loaded[name])
    assert {value.dtype for value in carry.to(torch.float64).values()} == {torch.float64}


def test_a_carry_is_constant() -> None:
    assert not any(value.requires_grad for value in carry_of(2).values())


def test_without_sensitivities_a_stack_keeps_its_states() -> None:
    network = RecurrentStack(
        3, 2, width=4, depth=2, layer=lambda width: LRU(width, 3), readout="mean"
    )
    _, carry = network(torch.randn(6, 5, 3))
    assert [*carry.without_sensitivities()] == ["0.state", "1.state", "mean.state"]


def test_what_is_not_finite_is_named() -> None:
    carry = carry_of(5)
    carry.check_finite()
    carry["decay"][3, 0, 0] = torch.inf
    with pytest.raises(DivergedError, match="decay of the layer is not finite in sequence 3"):
        carry.check_finite()
    with pytest.raises(DivergedError, match="The decay of layer 2 is not finite"):
        Carry.stack({"2": carry}).check_finite()


def test_sequences_that_begin_anew_carry_zeros() -> None:
    carry = carry_of(3)
    carry["state"][1] = torch.nan
    begun = carry.reset(torch.tensor([False, True, False]))
    assert_equal(begun.rows([0, 2]), carry.rows([0, 2]))
    assert not any(value.any() for value in begun.rows(1).values())
    assert carry.reset(None) is carry.reset(torch.zeros(3, dtype=torch.bool)) is carry


def test_what_does_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="no carry to concatenate"):
        Carry.concatenate([])
    with pytest.raises(InvalidValueError, match="belong to different networks"):
        Carry.concatenate([carry_of(2), carry_of(2).without_sensitivities()])
    with pytest.raises(InvalidValueError, match=r"of torch\.float32 on cpu, and .*float64 on cpu"):
        Carry.concatenate([carry_of(2), carry_of(2).to(torch.float64)])
    write_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, {"format": "reward"})
    with pytest.raises(DamagedFileError, match="holds no carry but 'reward'"):
        Carry.load(tmp_path / "other.safetensors")
