import torch

from skillrl.recurrent import LinearRTU, NonlinearRTU


def test_linear_units_follow_the_equations() -> None:
    torch.manual_seed(0)
    for activation, f in (("relu", torch.relu), ("tanh", torch.tanh)):
        layer = LinearRTU(3, 4, activation=activation)  # type: ignore[arg-type]
        inputs, (first, second) = torch.randn(6, 2, 3), torch.zeros(2, 2, 4)
        radius, phase = torch.exp(-layer.nu_log.exp()), layer.theta_log.exp()
        cos, sin, gain = radius * phase.cos(), radius * phase.sin(), (1 - radius**2).sqrt()
        expected = []
        for seen in inputs:
            into = [gain * (seen @ layer.input_weight[..., part]) for part in (0, 1)]
            first, second = cos * first - sin * second, sin * first + cos * second
            first, second = first + into[0], second + into[1]
            expected.append(f(torch.stack([first, second], -1).flatten(1)))
        torch.testing.assert_close(layer(inputs)[0], torch.stack(expected))


def test_nonlinear_units_follow_the_equations() -> None:
    torch.manual_seed(0)
    for activation, f in (("relu", torch.relu), ("tanh", torch.tanh)):
        layer = NonlinearRTU(3, 4, activation=activation)  # type: ignore[arg-type]
        inputs, (first, second) = torch.randn(6, 2, 3), torch.zeros(2, 2, 4)
        radius, phase = torch.exp(-layer.nu_log.exp()), layer.theta_log.exp()
        cos, sin, gain = radius * phase.cos(), radius * phase.sin(), (1 - radius**2).sqrt()
        expected = []
        for seen in inputs:
            into = [gain * (seen @ layer.input_weight[:, part]) for part in (0, 1)]
            turned = cos * first - sin * second, sin * first + cos * second
            first, second = f(turned[0] + into[0]), f(turned[1] + into[1])
            expected.append(torch.cat([first, second], -1))
        torch.testing.assert_close(layer(inputs)[0], torch.stack(expected))
