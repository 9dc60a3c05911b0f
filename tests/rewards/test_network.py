import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import read_tensors, write_tensors
from skillrl.rewards import NeuralReward
from skillrl.rewards.precision import exact_convolutions

# What a stranger may write where a description wants something else.
HOSTILE: list[Any] = [
    *(None, True, -1, 0, 1.5, 10**9, 10**18, 10**30, -(10**30)),
    *(math.inf, -math.inf, math.nan, "", "vector", "1e999", [], [1], [[1]], {}, {"a": 1}),
    *([0], [-1], [1.5], [math.inf], [math.nan], [10**18], [10**30], ["1"], [1, 2, 3], [10**6] * 3),
]


def vector_reward(size: int = 3, **kwargs: Any) -> NeuralReward:
    torch.manual_seed(0)
    reward = NeuralReward((size,), **kwargs)
    rng = np.random.default_rng(0)
    reward.standardise(torch.as_tensor(rng.normal(3.0, 2.0, (50, size))))
    return reward


def grid_reward() -> NeuralReward:
    torch.manual_seed(1)
    return NeuralReward((2,), "grid", size=(32, 32), target=0.05, hidden=100)


def image_reward(channels_last: bool) -> NeuralReward:
    torch.manual_seed(2)
    shape = (44, 40, 3) if channels_last else (3, 44, 40)
    return NeuralReward(shape, "image", hidden=16, channels_last=channels_last)


def float64_network(reward: NeuralReward, inputs: np.ndarray) -> np.ndarray:
    """The dense and convolutional layers of a reward, written out with NumPy in float64."""
    values = inputs
    for layer in reward.network:
        if isinstance(layer, nn.Conv2d):
            weight, bias = (p.detach().double().numpy() for p in layer.parameters())
            (kernel, _), (stride, _) = layer.kernel_size, layer.stride
            windows = np.lib.stride_tricks.sliding_window_view(values, (kernel, kernel), (2, 3))
            windows = windows[:, :, ::stride, ::stride]
            values = np.einsum("bchwij,ocij->bohw", windows, weight) + bias[:, None, None]
        elif isinstance(layer, nn.Linear):
            weight, bias = (p.detach().double().numpy() for p in layer.parameters())
            values = values @ weight.T + bias
        elif isinstance(layer, nn.SiLU):
            values = values / (1.0 + np.exp(-values))
        elif isinstance(layer, nn.ReLU):
            values = np.maximum(values, 0.0)
        else:
            assert isinstance(layer, nn.Flatten)
            values = values.reshape(len(values), -1)
    return values[:, 0]


def test_the_activation_of_a_vector_worked_by_hand() -> None:
    reward = NeuralReward((2,), target=5.0, hidden=2)
    reward.load_state_dict(
        {
            "mean": torch.tensor([1.0, 2.0]),
            "std": torch.tensor([2.0, 4.0]),
            "network.0.weight": torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
            "network.0.bias": torch.tensor([0.0, 0.5]),
            "network.2.weight": torch.tensor([[2.0, -1.0]]),
            "network.2.bias": torch.tensor([0.25]),
        }
    )
    # (3, 6) lies one standard deviation from the mean in both components, (1, 2) on the mean.
    activation = reward(torch.tensor([[3.0, 6.0], [1.0, 2.0]]))
    one = math.log(1.0 + math.sqrt(2.0))  # asinh(1)

    def silu(x: float) -> float:
        return x / (1.0 + math.exp(-x))

    expected = [2 * silu(one) - silu(2 * one + 0.5) + 0.25, -silu(0.5) + 0.25]
    np.testing.assert_allclose(activation.detach().numpy(), expected, rtol=1e-6)


def test_inputs_far_outside_the_data_count_by_their_logarithm() -> None:
    reward = vector_reward()
    inputs = [
        reward.standardised(reward.mean[None] + sign * 10.0**power * reward.std)
        for sign in (1, -1)
        for power in (2, 4, 6)
    ]
    step = math.log(100.0)
    for small, large in ((0, 1), (1, 2)):
        torch.testing.assert_close(
            inputs[large] - inputs[small], torch.full((1, 3), step), atol=2e-3, rtol=0
        )
    for plus, minus in zip(inputs[:3], inputs[3:], strict=True):
        torch.testing.assert_close(plus, -minus, atol=1e-3, rtol=0)


def test_large_positions_keep_their_digits() -> None:
    reward = vector_reward(1)
    reward.mean.fill_(1e6)
    reward.std.fill_(0.01)
    # In float32 a position of a million is known to a sixteenth only.
    near, nearer = reward(torch.tensor([[1e6 + 0.02], [1e6 + 0.01]], dtype=torch.float64))
    reward.mean.zero_()
    near_0, nearer_0 = reward(torch.tensor([[0.02], [0.01]]))
    torch.testing.assert_close(torch.stack([near, nearer]), torch.stack([near_0, nearer_0]))


def test_the_activation_of_a_vector_equals_float64() -> None:
    reward = vector_reward(17)
    observations = np.random.default_rng(1).normal(3.0, 2.0, (40, 17))
    standardised = (observations - reward.mean.double().numpy()) / reward.std.double().numpy()
    expected = float64_network(reward, np.arcsinh(standardised))
    activation = reward(torch.as_tensor(observations)).detach().numpy()
    np.testing.assert_allclose(activation, expected, rtol=1e-5, atol=1e-6)


def test_the_activation_on_a_grid_equals_float64() -> None:
    reward = grid_reward()
    positions = np.array([[0, 0], [1, 2], [2, 1], [31, 31], [30, 5]])
    grid = np.zeros((5, 1, 32, 32))
    for image, (row, column) in zip(grid, positions, strict=True):
        image[0, row, column] = 1.0
    activation = reward(torch.as_tensor(positions)).detach().numpy()
    np.testing.assert_allclose(activation, float64_network(reward, grid), rtol=1e-5, atol=1e-6)
    # Rows and columns are not mistaken for each other.
    assert activation[1] != activation[2]


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_activation_of_an_image_equals_float64(channels_last: bool) -> None:
    reward = image_reward(channels_last)
    images = np.random.default_rng(2).integers(0, 256, (4, 3, 44, 40), np.uint8)
    expected = float64_network(reward, images / 255.0)
    observations = np.ascontiguousarray(np.moveaxis(images, 1, -1)) if channels_last else images
    with exact_convolutions():
        activation = reward(torch.as_tensor(observations)).detach().numpy()
    np.testing.assert_allclose(activation, expected, rtol=1e-4, atol=1e-6)


def test_a_loaded_reward_is_the_saved_one_to_the_last_bit(tmp_path: Path) -> None:
    # In the memory of a file that was only mapped, sums over few rows would be rounded otherwise.
    for seed, size in enumerate((2, 11, 17, 27)):
        reward = vector_reward(size)
        reward.standardise(torch.randn(100, size, generator=torch.Generator().manual_seed(seed)))
        reward.save(tmp_path / "reward.safetensors")
        loaded = NeuralReward.load(tmp_path / "reward.safetensors")
        for batch in (1, 2, 3, 5, 10, 64):
            observations = np.random.default_rng(batch).normal(size=(batch, size))
            assert np.array_equal(loaded.reward(observations), reward.reward(observations))


@pytest.mark.parametrize("shape", [(5, 2), (5, 4), (3,), (5, 3, 1), ()])
def test_observations_of_another_shape_are_named(shape: tuple[int, ...]) -> None:
    reward = vector_reward(3)
    with pytest.raises(InvalidValueError, match=r"shape \(batch, 3\)\. Received \("):
        reward(torch.zeros(shape))
    with pytest.raises(InvalidValueError, match=r"shape \(batch, 3\)\. Received \("):
        reward.reward(np.zeros(shape))


@pytest.mark.parametrize("position", [[0, 32], [32, 0], [-1, 5], [5, -1]])
def test_a_position_outside_of_the_grid_is_named(position: list[int]) -> None:
    with pytest.raises(InvalidValueError, match=rf"position \[{position[0]}, {position[1]}\]"):
        grid_reward()(torch.tensor([[0, 0], position]))


def test_the_networks_are_those_described() -> None:
    convolutions = [layer for layer in grid_reward().network if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (4, (5, 5), (3, 3)),
        (8, (4, 4), (3, 3)),
    ]
    images = NeuralReward((1, 84, 84), "image", hidden=256)
    convolutions = [layer for layer in images.network if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (16, (8, 8), (4, 4)),
        (32, (4, 4), (2, 2)),
    ]
    vectors = NeuralReward((87,), hidden=87).network
    kinds = (nn.Linear, nn.SiLU, nn.Linear)
    assert all(isinstance(layer, kind) for layer, kind in zip(vectors, kinds, strict=True))


@pytest.mark.parametrize("label", [0, 2])
def test_a_classifier_tells_how_much_more_likely_its_label_is_than_by_a_guess(label: int) -> None:
    torch.manual_seed(0)
    reward = NeuralReward((4,), target=math.log(3), hidden=8, classes=3, label=label)
    observations = np.random.default_rng(0).normal(size=(20, 4))
    with torch.no_grad():
        outputs = reward.outputs(reward.standardised(torch.as_tensor(observations))).numpy()
        activation = reward(torch.as_tensor(observations)).numpy()
    likely = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(activation), 3 * likely[:, label], rtol=1e-5)
    assert reward.reward(observations).max() <= np.float32(math.log(3))


@pytest.mark.parametrize(("classes", "label"), [(1, 1), (3, 3), (3, -1), (0, 0)])
def test_a_label_is_one_of_the_classes(classes: int, label: int) -> None:
    with pytest.raises(InvalidValueError, match=f"one of {classes} classes"):
        NeuralReward((4,), classes=classes, label=label)


def test_the_reward_is_the_activation_clipped_to_the_target() -> None:
    reward = vector_reward(target=0.5)
    with torch.no_grad():
        for parameter in reward.network[2].parameters():
            parameter.mul_(20.0)
    observations = np.random.default_rng(3).normal(3.0, 4.0, (200, 3)).astype(np.float32)
    activation = reward(torch.as_tensor(observations)).detach().numpy()
    rewards = reward.reward(observations)
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(rewards, np.clip(activation, 0.0, 0.5))
    # All three cases occur.
    assert (rewards == 0.0).any()
    assert (rewards == 0.5).any()
    assert ((rewards > 0.0) & (rewards < 0.5)).any()


def test_statistics_are_those_of_float64() -> None:
    observations = np.random.default_rng(4).normal(1e3, 0.5, (10_000, 3)).astype(np.float32)
    observations[:, 2] = 7.0 + 1e-4 * observations[:, 2]
    reward = NeuralReward((3,))
    reward.standardise(torch.as_tensor(observations))
    exact = observations.astype(np.float64)
    np.testing.assert_allclose(reward.mean.numpy(), exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(reward.std.numpy()[:2], exact.std(0)[:2], rtol=1e-6)
    # Not the tiny standard deviation of a component that hardly moved.
    assert reward.std[2].item() == pytest.approx(0.01)


def test_a_grid_has_no_statistics() -> None:
    reward = grid_reward()
    before = reward(torch.tensor([[3, 4]]))
    reward.standardise(torch.tensor([[5, 6], [7, 8]]))
    assert torch.equal(reward(torch.tensor([[3, 4]])), before)
    assert not dict(reward.named_buffers())


@pytest.mark.parametrize("kind", ["vector", "grid", "image", "image, channels last"])
def test_a_saved_reward_is_the_same_to_the_last_bit(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    observations: np.ndarray
    if kind == "vector":
        reward, observations = vector_reward(), rng.normal(3.0, 2.0, (30, 3))
    elif kind == "grid":
        reward, observations = grid_reward(), rng.integers(0, 32, (30, 2))
    else:
        reward = image_reward("last" in kind)
        observations = rng.integers(0, 256, (30, *reward.shape), np.uint8)
    path = tmp_path / "reward.safetensors"
    reward.save(path)
    loaded = NeuralReward.load(str(path))
    assert loaded.description() == reward.description()
    tensor = torch.as_tensor(observations)
    assert torch.equal(loaded(tensor), reward(tensor))
    np.testing.assert_array_equal(loaded.reward(observations), reward.reward(observations))
    # It can be trained on, and saved again.
    loaded(tensor).sum().backward()
    loaded.save(path)
    assert torch.equal(NeuralReward.load(path)(tensor), reward(tensor))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (3,), "kind": "sound"}, "vector, grid, image. Received 'sound'"),
        ({"shape": (3,), "target": 0.0}, "target should be positive and finite. Received 0.0"),
        ({"shape": (3,), "target": -1.0}, "Received -1.0"),
        ({"shape": (3,), "target": math.inf}, "Received inf"),
        ({"shape": (3,), "target": math.nan}, "Received nan"),
        ({"shape": (3,), "hidden": 0}, "hidden should be at least 1. Received 0"),
        ({"shape": ()}, r"1 dimension\(s\). Received the shape \(\)"),
        ({"shape": (3, 4)}, r"Received the shape \(3, 4\)"),
        ({"shape": (0,)}, r"Received the shape \(0,\)"),
        ({"shape": (84, 84), "kind": "image"}, r"3 dimension\(s\). Received the shape \(84, 84\)"),
        ({"shape": (3, 7, 80), "kind": "image"}, "7x80 are too small"),
        ({"shape": (2,), "kind": "grid"}, "the size None"),
        ({"shape": (3,), "kind": "grid", "size": (32, 32)}, r"the shape \(3,\)"),
        ({"shape": (2,), "kind": "grid", "size": (32, 13)}, "32x13 are too small"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        NeuralReward(**arguments)


def saved(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor], dict[str, Any]]:
    path = tmp_path / "reward.safetensors"
    vector_reward().save(path)
    return path, *read_tensors(path)


def test_a_file_cut_short_is_damaged(tmp_path: Path) -> None:
    path, _, _ = saved(tmp_path)
    content = path.read_bytes()
    for size in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedFileError, match=r"reward\.safetensors"):
            NeuralReward.load(path)


def test_a_missing_file_and_a_renamed_pickle_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "reward.safetensors"
    with pytest.raises(DamagedFileError, match=r"reward\.safetensors does not exist"):
        NeuralReward.load(path)
    for write in (lambda: torch.save(vector_reward(), path), lambda: pickle_to(path)):
        write()
        with pytest.raises(DamagedFileError, match=r"reward\.safetensors"):
            NeuralReward.load(path)


def pickle_to(path: Path) -> None:
    path.write_bytes(pickle.dumps(vector_reward().description()))


@pytest.mark.parametrize("format", [None, "skill-policy", 1, ["reward"]])
def test_a_file_of_another_kind_is_named(format: Any, tmp_path: Path) -> None:
    path, tensors, description = saved(tmp_path)
    write_tensors(path, tensors, {**description, "format": format})
    with pytest.raises(DamagedFileError, match=r"reward\.safetensors holds no reward but"):
        NeuralReward.load(path)


def test_tensors_that_do_not_fit_are_damaged(tmp_path: Path) -> None:
    path, tensors, description = saved(tmp_path)
    weight = tensors["network.0.weight"]
    nan = weight.clone()
    nan[0, 0] = math.nan
    for change in (
        {"network.0.weight": nan},
        {"mean": torch.full((3,), math.inf)},
        {"network.0.weight": weight.T},
        {"network.0.weight": weight[:-1]},
        {"network.0.weight": weight.double()},
        {"mean": torch.zeros(3, dtype=torch.int64)},
        {"mean": torch.zeros(1)},
        {"one more": torch.zeros(1)},
    ):
        write_tensors(path, {**tensors, **change}, description)
        with pytest.raises(DamagedFileError, match=r"reward\.safetensors"):
            NeuralReward.load(path)
    for name in tensors:
        rest = {other: tensor for other, tensor in tensors.items() if other != name}
        write_tensors(path, rest, description)
        with pytest.raises(DamagedFileError, match=rf"reward\.safetensors.*{name}"):
            NeuralReward.load(path)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_standard_deviation_that_is_not_positive_is_damaged(std: float, tmp_path: Path) -> None:
    path, tensors, description = saved(tmp_path)
    write_tensors(path, {**tensors, "std": torch.tensor([1.0, std, 1.0])}, description)
    with pytest.raises(DamagedFileError, match=r"reward\.safetensors.*std"):
        NeuralReward.load(path)


@pytest.mark.parametrize(
    "key", ["shape", "kind", "target", "hidden", "size", "channels_last", "unknown", None]
)
@pytest.mark.parametrize("kind", ["vector", "grid", "image"])
def test_a_description_of_a_stranger_does_no_harm(
    kind: str, key: str | None, tmp_path: Path
) -> None:
    reward = {"vector": vector_reward, "grid": grid_reward, "image": lambda: image_reward(True)}
    path = tmp_path / "reward.safetensors"
    original = reward[kind]()
    sizes = {name: parameter.shape for name, parameter in original.named_parameters()}
    original.save(path)
    tensors, description = read_tensors(path)
    for value in HOSTILE:
        network = value if key is None else {**description["network"], key: value}
        write_tensors(path, tensors, {**description, "network": network})
        try:
            loaded = NeuralReward.load(path)
        except DamagedFileError as error:
            assert "reward.safetensors" in str(error)
        else:
            # What can be loaded after all is a network of the same size.
            assert {n: p.shape for n, p in loaded.named_parameters()} == sizes
    write_tensors(path, tensors, {"format": "reward"})
    with pytest.raises(DamagedFileError, match=r"reward\.safetensors describes no valid network"):
        NeuralReward.load(path)


def test_no_memory_is_allocated_for_what_a_description_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tensors, description = saved(tmp_path)
    network = {**description["network"], "hidden": 10**12}
    write_tensors(path, tensors, {**description, "network": network})
    devices = []

    def record(layer: nn.Linear) -> None:
        devices.append((layer.out_features, layer.weight.device.type))

    monkeypatch.setattr(nn.Linear, "reset_parameters", record)
    with pytest.raises(DamagedFileError, match=r"reward\.safetensors does not fit"):
        NeuralReward.load(path)
    assert devices == [(10**12, "meta"), (1, "meta")]
