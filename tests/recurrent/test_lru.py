import math
import re
from collections.abc import Iterator

import pytest
import torch

from skillrl.errors import InvalidValueError
from skillrl.recurrent import GRU, LRU, Carry
from streams import doubles


@pytest.fixture(autouse=True)
def in_doubles() -> Iterator[None]:
    yield from doubles()


def test_three_steps_by_hand() -> None:
    # One unit with λ = i/2, γ = 1, B = 1; y = Re(h). Inputs 1, 2, 4.
    layer = LRU(1, 1)
    with torch.no_grad():
        layer.nu_log.fill_(math.log(math.log(2)))
        layer.theta_log.fill_(math.log(math.pi / 2))
        layer.gamma_log.fill_(0)
        layer.input_weight.copy_(torch.tensor([[[1.0, 0.0]]]))
        layer.output_weight.copy_(torch.tensor([[[1.0], [0.0]]]))
        layer.feedthrough.fill_(0)
    outputs, carry = layer(torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1))
    # h = 1; i/2 + 2; i/2 (2 + i/2) + 4 = 3.75 + i.
    torch.testing.assert_close(outputs.flatten(), torch.tensor([1.0, 2.0, 3.75]))
    torch.testing.assert_close(carry["state"].flatten(), torch.tensor([3.75, 1.0]))
    # e^λ = 0; 1; i/2 + (2 + i/2) = 2 + i.
    torch.testing.assert_close(carry["decay"].flatten(), torch.tensor([2.0, 1.0]))
    # e^γ and e^B are what the state would be for B = 1: the same sums.
    torch.testing.assert_close(carry["gain"].flatten(), torch.tensor([3.75, 1.0]))
    torch.testing.assert_close(carry["input"].flatten(), torch.tensor([3.75, 1.0]))
    # d Re(h_3) / dν = Re(e^λ dλ/dν), with dλ/dν = −exp(ν) λ = −ln 2 · i/2.
    carry = layer(torch.tensor([1.0, 2.0]).view(2, 1, 1))[1]
    outputs, _ = layer(torch.full((1, 1, 1), 4.0), carry)
    outputs.sum().backward()
    assert layer.nu_log.grad is not None
    torch.testing.assert_close(layer.nu_log.grad, torch.tensor([0.5 * math.log(2)]))


def test_the_forward_pass_follows_the_equations() -> None:
    layer = LRU(3, 4)
    inputs = torch.randn(6, 2, 3)
    decay = torch.exp(torch.complex(-layer.nu_log.exp(), layer.theta_log.exp()))
    into = torch.view_as_complex(layer.input_weight).t()  # B, (4, 3)
    out = torch.complex(layer.output_weight[:, 0], -layer.output_weight[:, 1]).t()  # C, (3, 4)
    state, expected = torch.zeros(2, 4, dtype=torch.complex128), []
    for seen in inputs:
        state = decay * state + layer.gamma_log.exp() * (seen.to(into.dtype) @ into.t())
        expected.append((state @ out.t()).real + layer.feedthrough * seen)
    torch.testing.assert_close(layer(inputs)[0], torch.stack(expected))


def test_the_initialisation_of_the_paper() -> None:
    layer = LRU(16, 4_000, r_min=0.5, r_max=0.9, max_phase=1.0)
    decay = torch.view_as_complex(layer.decay())
    squares = decay.abs().square()
    assert 0.25 <= squares.min() < 0.26
    assert 0.80 < squares.max() <= 0.81
    assert squares.mean().item() == pytest.approx(0.53, abs=0.01)
    assert decay.angle().min() > 0 and decay.angle().max() <= 1
    torch.testing.assert_close(layer.gain(), (1 - squares).sqrt())
    assert layer.input_weight.std().item() == pytest.approx(1 / math.sqrt(32), rel=0.02)
    assert layer.output_weight.std().item() == pytest.approx(1 / math.sqrt(4_000), rel=0.02)


def test_with_a_gain_a_cue_is_as_large_as_it_came_in() -> None:
    layer = LRU(2, 500, horizon=1_000, gain=1.0)
    torch.testing.assert_close(layer.gain(), torch.ones(500))
    # It is √(1 − e⁻²/¹⁰⁰⁰) otherwise, or less.
    assert float(LRU(2, 500, horizon=1_000).gain().detach().max()) < 0.05


@pytest.mark.parametrize("horizon", [1, 10, 1_000])
def test_with_a_horizon_all_states_outlive_the_delay(horizon: int) -> None:
    left = torch.view_as_complex(LRU(2, 500, horizon=horizon).decay()).abs() ** horizon
    assert left.min() > math.exp(-1) - 1e-9


def test_horizons_and_phases_on_logarithmic_scales() -> None:
    decay = torch.view_as_complex(LRU(2, 4_000, horizon=(2, 200), min_phase=0.01).decay())
    # The times in which 1/e is left: as many from 2 to 20 as from 20 to 200.
    times = -1 / decay.abs().log()
    assert times.min() > 2 - 1e-9 and times.max() < 200 + 1e-9
    assert (times < 20).double().mean().item() == pytest.approx(0.5, abs=0.03)
    phases = decay.angle() % (2 * math.pi)
    assert phases.min() > 0.01 - 1e-9
    middle = math.sqrt(0.01 * 2 * math.pi)
    assert (phases < middle).double().mean().item() == pytest.approx(0.5, abs=0.03)
    alike = torch.view_as_complex(LRU(2, 50, horizon=[10, 10]).decay())
    torch.testing.assert_close(alike.abs(), torch.full((50,), math.exp(-0.1)))


def test_states_at_the_unit_circle_are_finite_in_float32() -> None:
    torch.set_default_dtype(torch.float32)
    layer = LRU(2, 100_000, r_min=0.0, r_max=1.0)
    for parameter in layer.parameters():
        assert torch.isfinite(parameter).all()
    outputs, carry = layer(torch.randn(3, 1, 2))
    assert torch.isfinite(outputs).all()
    carry.check_finite()


def test_rows_learn_on_their_own() -> None:
    layer = LRU(3, 4)
    inputs = torch.randn(6, 5, 3)
    _, carry = layer(inputs)
    _, alone = layer(inputs[:, [3, 1]])
    for name, value in carry.rows([3, 1]).items():
        torch.testing.assert_close(value, alone[name])


def test_without_gradients_no_sensitivities_are_computed() -> None:
    layer = LRU(3, 4)
    with torch.no_grad():
        _, carry = layer(torch.randn(6, 5, 3))
        assert [*carry] == ["state"]
        _, carry = layer(torch.randn(6, 5, 3), layer.initial_carry(5))
        assert [*carry] == ["state", "decay", "gain", "input"]
    layer.rule = "truncated"
    assert [*layer(torch.randn(6, 5, 3))[1]] == ["state"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"r_min": 0.9, "r_max": 0.5}, "r_min=0.9, r_max=0.5"),
        ({"r_max": 1.5}, "r_max=1.5"),
        ({"max_phase": 0.0}, "max_phase should be in (0, 2π]. Received 0.0"),
        ({"min_phase": -0.1}, "min_phase should be in [0, max_phase). Received -0.1"),
        ({"min_phase": 1.0, "max_phase": 1.0}, "Received 1.0, and 1.0"),
        ({"horizon": 0.5}, "horizon=0.5"),
        ({"horizon": (0.5, 10)}, "from the shortest to the longest. Received (0.5, 10)"),
        ({"horizon": (10, 5)}, "Received (10, 5)"),
        ({"horizon": [10]}, "Received [10]"),
        ({"horizon": (1, 10), "r_max": 0.9}, "r_min=0.0 and r_max=0.9"),
        ({"gain": 0.0}, "gain should be positive"),
        ({"horizon": 10, "r_min": 0.5}, "in the place of r_min"),
        ({"horizon": 1_000, "r_max": 0.9}, "for a horizon of 1000 steps"),
        ({"rule": "snap1"}, "LRU has no rule 'snap1': use one of online, truncated"),
        ({"rule": "magic"}, "LRU knows no rule 'magic'"),
    ],
)
def test_bad_settings(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        LRU(3, 4, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="state_size should be a whole number, at least 1"):
        LRU(3, 0)
    with pytest.raises(InvalidValueError, match=r"Received 2\.5"):
        LRU(3, 2.5)  # type: ignore[arg-type]


def test_bad_calls() -> None:
    layer, good = LRU(3, 4), torch.randn(6, 5, 3)

    def refuses(message: str, *arguments: object) -> None:
        with pytest.raises(InvalidValueError, match=re.escape(message)):
            layer(*arguments)

    refuses("inputs of shape (time, batch, 3). Received (6, 3)", good[:, 0])
    refuses("inputs of shape (time, batch, 3). Received (6, 5, 2)", good[..., :2])
    refuses("takes a tensor of inputs of shape (time, batch, 3)", good.numpy())
    refuses("The inputs are torch.float32 on cpu", good.float())
    refuses("The inputs are torch.float64 on meta, and the parameters", good.to("meta"))
    refuses("The carry is torch.float64 on meta", good, layer.initial_carry(5).to("meta"))
    refuses("at least one step", good[:0])
    refuses("starts should be a tensor. Received a list.", good, None, [True])
    refuses("starts should be bool of shape (6, 5)", good, None, torch.zeros(6, 5))
    refuses(
        "starts should be bool of shape (6, 5)", good, None, torch.zeros(6, 4, dtype=torch.bool)
    )
    refuses(
        "With 5 sequence(s), LRU carries state of shape (5, 4, 2)", good, layer.initial_carry(4)
    )
    refuses("The carry of another network holds state, input", good, GRU(3, 4).initial_carry(5))
    refuses("(5, 4, 2). Received (5, 6, 2)", good, LRU(3, 6).initial_carry(5))
    refuses("The carry is torch.float32 on cpu", good, layer.initial_carry(5).to(torch.float32))
    refuses(
        "'online' of LRU needs sensitivities, and the carry, which holds state, lacks decay",
        *(good, layer.initial_carry(5, sensitivities=False)),
    )
    refuses("The carry of another network holds x", good, Carry({"x": torch.zeros(5)}))
    refuses("takes a Carry, as the last chunk", good, torch.zeros(1, 5, 4))
    with pytest.raises(InvalidValueError, match=r"float32 or float64\. Its parameters are"):
        LRU(3, 4).half()(good.half())


# torch's own, when it first loads what forward mode needs.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_derivatives_in_forward_mode_are_refused() -> None:
    layer, inputs = LRU(3, 4), torch.randn(6, 5, 3)
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    # Of the inputs, and of λ alone.
    with pytest.raises(InvalidValueError, match=r"LRU has no derivatives in forward mode"):
        torch.func.jvp(lambda seen: layer(seen)[0], (inputs,), (inputs,))
    for name in ("nu_log", "theta_log"):
        with pytest.raises(InvalidValueError, match="forward mode"):
            torch.func.jvp(
                lambda value, name=name: torch.func.functional_call(
                    layer, {**parameters, name: value}, (inputs,)
                )[0],
                (parameters[name],),
                (torch.ones(4),),
            )
