"""Networks of all kinds that permutations are tested on, in float64, with inputs for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn

from skillrl.agents.recurrent_policy import RecurrentPolicy
from skillrl.agents.recurrent_sac_policy import RecurrentSACPolicy
from skillrl.agents.sequence_replay import Seen
from skillrl.recurrent import GRU, LRU, LinearRNN, LinearRTU, NonlinearRTU, RecurrentStack
from skillrl.recurrent.stack import MakeLayer

BOX, ACTIONS = spaces.Box(-1, 1, (5,)), spaces.Box(-1, 1, (2,))
IMAGES = spaces.Box(0, 255, (1, 36, 36), np.uint8)


class Residual(nn.Module):
    """A residual block with a norm, and a head that sees all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(5, 8)
        self.norm = nn.LayerNorm(8)
        self.inner = nn.Linear(8, 10)
        self.outer = nn.Linear(10, 8)
        self.head = nn.Linear(8 + 10 + 5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.encoder(inputs)
        seen = torch.tanh(self.inner(self.norm(hidden)))
        hidden = hidden + self.outer(seen)
        return self.head(torch.cat([hidden, seen, inputs], -1))


class Gated(nn.Module):
    """A gated linear unit, whose two halves are exchanged together."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.gate, self.head = nn.Linear(5, 8), nn.Linear(8, 12), nn.Linear(6, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(nn.functional.glu(self.gate(torch.tanh(self.encoder(inputs)))))


class ConvolutionalResidual(nn.Module):
    """A residual convolutional block, pooled over the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.inner, self.inner_norm = nn.Conv2d(6, 7, 3, padding=1), nn.BatchNorm2d(7)
        self.outer = nn.Conv2d(7, 6, 1)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.head = nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.stem(images)))
        hidden = hidden + self.outer(torch.tanh(self.inner_norm(self.inner(hidden))))
        return self.head(torch.relu(self.depthwise(hidden)).mean((2, 3)))


def first(module: nn.Module, inputs: Any) -> Any:
    """The outputs of a recurrent network, without its carry."""
    return module(inputs)[0]


def deterministic(module: nn.Module, inputs: Any) -> Any:
    """What a policy does without noise."""
    return module(inputs, deterministic=True)


def chunk(policy: nn.Module, observations: Tensor) -> Any:
    """What a recurrent policy makes of a chunk from the begin of episodes."""
    assert isinstance(policy, RecurrentPolicy)
    starts = torch.zeros(observations.shape[:2], dtype=torch.bool)
    carry = policy.initial_carry(observations.shape[1], sensitivities=False)
    actor, critic = policy.recur(observations, carry, starts)
    return (
        policy.action_net(policy.mlp_extractor.forward_actor(actor)),
        policy.value_net(policy.mlp_extractor.forward_critic(critic)),
    )


def actor_chunk(policy: nn.Module, observations: Tensor) -> Any:
    """What the actor of a recurrent SAC makes of a chunk."""
    assert isinstance(policy, RecurrentSACPolicy)
    starts = torch.zeros(observations.shape[:2], dtype=torch.bool)
    carry = policy.initial_carry(observations.shape[1], sensitivities=False)
    seen = Seen(observations, carry, starts)
    return policy.actor._distribution(policy.actor.remember(seen, burn_in=0))


@dataclass(frozen=True)
class Architecture:
    make: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    forward: Callable[[nn.Module, Any], Any] = lambda module, inputs: (
        module(*inputs) if isinstance(inputs, tuple) else module(inputs)
    )

    def network(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        network = self.make().double().eval()
        for name, buffer in network.named_buffers():
            # Statistics of batch norms that are not those of the first day.
            if name.endswith(("running_mean", "running_var")):
                buffer += torch.rand_like(buffer)
        for name, parameter in network.named_parameters():
            # Norms' and others' that are all alike at first.
            if name.endswith("bias") or "norm" in name or bool((parameter == 1).all()):
                parameter.data += 0.3 * torch.randn_like(parameter)
        return network

    def batch(self, seed: int = 1) -> Any:
        torch.manual_seed(seed)
        return self.inputs()


def vectors() -> Tensor:
    return torch.randn(300, 5, dtype=torch.float64)


def sequences() -> Tensor:
    return torch.randn(4, 60, 5, dtype=torch.float64)


def images() -> Tensor:
    return torch.randn(40, 3, 8, 8, dtype=torch.float64)


def _mlp(activation: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 12), activation(), nn.Linear(12, 9), activation(), nn.Linear(9, 2)
    )


def _policy(_: float = 0.0) -> float:
    return 1e-3


def _stack(layer: MakeLayer) -> nn.Module:
    return RecurrentStack(5, 2, width=6, depth=2, layer=layer)


def _recurrent(cell: str, **kwargs: Any) -> nn.Module:
    return RecurrentPolicy(
        BOX,
        ACTIONS,
        _policy,
        cell=cell,
        state_size=7,
        encoder=(6,),
        net_arch=[9],
        rule="bptt",
        **kwargs,
    )


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "hardtanh": nn.Hardtanh,
    "prelu": lambda: nn.PReLU(init=0.1),
}

ARCHITECTURES: dict[str, Architecture] = {
    **{
        name: Architecture(partial(_mlp, activation), vectors)
        for name, activation in ACTIVATIONS.items()
        if name != "prelu"
    },
    "convolutions": Architecture(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(20, 6),
            nn.Tanh(),
            nn.Linear(6, 2),
        ),
        images,
    ),
    "residual": Architecture(Residual, vectors),
    "gated": Architecture(Gated, vectors),
    "convolutional-residual": Architecture(ConvolutionalResidual, images),
    "actor-critic": Architecture(
        lambda: ActorCriticPolicy(BOX, ACTIONS, _policy), vectors, deterministic
    ),
    "actor-critic-shared": Architecture(
        lambda: ActorCriticPolicy(
            BOX, spaces.Discrete(3), _policy, net_arch=[8, 8], activation_fn=nn.ReLU
        ),
        vectors,
        deterministic,
    ),
    "actor-critic-images": Architecture(
        lambda: ActorCriticCnnPolicy(
            IMAGES,
            spaces.Discrete(3),
            _policy,
            features_extractor_kwargs={"features_dim": 16},
        ),
        lambda: (torch.rand(100, 1, 1, 1) * torch.randint(0, 256, (100, 1, 36, 36))).byte(),
        deterministic,
    ),
    "sac-actor": Architecture(
        lambda: SACPolicy(BOX, ACTIONS, _policy, net_arch=[16, 16]).actor, vectors, deterministic
    ),
    "sac-critic": Architecture(
        lambda: SACPolicy(BOX, ACTIONS, _policy, net_arch=[16, 16]).critic,
        lambda: (vectors(), torch.rand(300, 2, dtype=torch.float64)),
    ),
    "recurrent-lru": Architecture(lambda: _recurrent("lru"), sequences, chunk),
    "recurrent-shared": Architecture(
        lambda: _recurrent("lru", shared_recurrence=True), sequences, chunk
    ),
    "recurrent-linear-rtu": Architecture(lambda: _recurrent("linear-rtu"), sequences, chunk),
    "recurrent-nonlinear-rtu": Architecture(lambda: _recurrent("nonlinear-rtu"), sequences, chunk),
    "recurrent-gru": Architecture(lambda: _recurrent("gru"), sequences, chunk),
    "recurrent-sac-actor": Architecture(
        lambda: RecurrentSACPolicy(
            *(BOX, ACTIONS, _policy),
            net_arch=[9],
            cell="lru",
            state_size=7,
            encoder=(6,),
            rule="bptt",
        ),
        sequences,
        actor_chunk,
    ),
    "stack-lru": Architecture(
        lambda: _stack(lambda width: LRU(width, 5, rule="bptt")), sequences, first
    ),
    "stack-rtu": Architecture(
        lambda: _stack(lambda width: LinearRTU(width, 5, rule="bptt", activation="tanh")),
        sequences,
        first,
    ),
    "stack-nonlinear-rtu": Architecture(
        lambda: _stack(lambda width: NonlinearRTU(width, 5, rule="bptt")), sequences, first
    ),
    "stack-rnn": Architecture(
        lambda: _stack(lambda width: LinearRNN(width, 5, rule="bptt")), sequences, first
    ),
    "stack-gru": Architecture(
        lambda: _stack(lambda width: GRU(width, 5, rule="bptt")), sequences, first
    ),
}
