"""Every setting of a discovery run, documented where it is defined.

A recipe is a frozen dataclass. The Python API, the command line and a run's ``run.json`` all come
from it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from skillrl.discovery.schema import from_json
from skillrl.envs.make import check_arguments
from skillrl.errors import InvalidValueError


class _Checked:
    """A recipe whose values are checked when it is made."""

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidValueError(f"{item.name} should be finite. Received {value}.")
            low, high = item.metadata.get("range", (None, None))
            if low is not None and not low <= value <= high:
                allowed = f"at least {low}" if high == math.inf else f"in [{low}, {high}]"
                raise InvalidValueError(f"{item.name} should be {allowed}. Received {value}.")
            kind, several = types[item.name], False
            if get_origin(kind) is tuple:
                kind, several = get_args(kind)[0], True
                if isinstance(value, str) or not value:
                    raise InvalidValueError(
                        f"{item.name} should be a list of at least one. Received {value!r}."
                    )
            if get_origin(kind) is Literal:
                allowed = ", ".join(map(repr, get_args(kind)))
                for each in value if several else (value,):
                    if each not in get_args(kind):
                        raise InvalidValueError(
                            f"{item.name} should be one of {allowed}. Received {each!r}."
                        )


def _in(low: float, high: float, default: Any) -> Any:
    """A field with a default whose values should lie in [low, high]."""
    return field(default=default, metadata={"range": (low, high)})


def _at_least(low: float, default: Any) -> Any:
    """A field with a default whose values should be at least ``low``."""
    return _in(low, math.inf, default)


@dataclass(frozen=True)
class RewardRecipe(_Checked):
    """The neural reward function and how it is fitted to positives and negatives."""

    target: float = _at_least(1e-6, 5.0)
    """Activation that positives are drawn towards, negatives towards minus it. An observation's
    reward is its activation clipped to [0, target]."""
    hidden: int = _at_least(1, 128)
    """Units of the hidden layer."""
    steps: int = _at_least(1, 2_000)
    """Adam steps of a fit; the paper's robots have 300, of 171 observations each."""
    max_fits: int = _at_least(1, 3)
    """Times that a fit may go on for as many steps until it separates clearly; 1 in the paper."""
    batch_size: int = _at_least(4, 768)
    """Observations a step, in equal shares: positives, current negatives, archived negatives, and
    other ways to go on; of the latter two, where there are any."""
    learning_rate: float = _at_least(0.0, 1e-3)
    """Adam's learning rate."""
    weight_decay: float = _at_least(0.0, 0.0)
    """Weight of the squared parameters (L2) in the loss."""


@dataclass(frozen=True)
class SampleRecipe(_Checked):
    """How the observations that a reward is fitted to are gathered."""

    num_envs: int = _at_least(1, 64)
    """Environments that gather samples side by side."""
    negative_steps: int = _at_least(1, 300)
    """Steps of the finished skill, from an ordinary reset: its observations are the negatives."""
    positive_steps: int = _at_least(1, 40)
    """Steps of exploration that follow the finished skill: their observations are the positives."""
    positive_repeats: int = _at_least(1, 8)
    """Times that every environment gathers positives."""
    explores_from: Literal["end", "way"] = "end"
    """Where exploration sets out. "end": from where the finished skill is after `negative_steps`,
    as in the paper. "way": from `positive_repeats` moments on the way there, the last of which
    comes `positive_steps` before the end, so that negatives, too, show each time of an episode that
    positives do; in turn or, with `earned`, from where enough was earned, if states can be
    restored. Where observations tell the time, a reward would ask for what is late. In Montezuma's
    Revenge a skull rolls to and fro and never looks the same at two times."""
    earned: float = _at_least(0.0, 0.0)
    """What an episode must have earned, in steps of full reward, for what exploration reaches from
    then on to count, so that positives lie beyond what the skill is for, and for exploration to set
    out from the way there; where too few earn as much, what the best hundredth has earned will do.
    0 lets all count."""
    before_end: int = _at_least(0, 0)
    """Observations before an exploration's episode terminates, or a life is lost, that do not
    count: in a game, a fall is lost before it has ended."""
    exploration: Literal["scaled-noise", "parameter-noise", "uniform"] = "scaled-noise"
    """How positives are explored. "scaled-noise": with the policy's own noise, shifted until its
    largest standard deviation is `exploration_std`, as in the paper. "parameter-noise": in each
    environment by another copy of the policy, whose last layer's weights are disturbed, so that the
    way it moves is its own and can be learnt. "uniform": with uniformly random actions, as discrete
    actions always are."""
    exploration_hold: float = _in(1.0, 1_000.0, 1.0)
    """Steps for which a uniformly random action is held, on average; 1 in the paper. Numbers of
    steps are geometrically distributed. The longer, the farther exploration goes from where it set
    out."""
    exploration_std: float = _in(0.01, 100.0, 1.0)
    """Standard deviation (before the tanh) of what scaled or parameter noise does to an action."""
    asks_for: tuple[
        Literal["all", "new cells", "ways", "lively ways", "directions", "velocities"], ...
    ] = ("all",)
    """What a reward asks for of what exploration reached; skills take it in turn. "all": all of it,
    as in the paper. "new cells": images that, shrunk to 12 by 12 squares of 16 shades, show
    somewhere, in 2 by 2 squares, what no skill was seen with, or positions on a grid where none
    was; and so not another posture in a place that is known. Of vectors, or where hardly any is
    new, all. The others choose among the explorations that lasted: those that no end of an episode
    cut short, or the quarter that was cut short last. "ways": one cluster of explorations, sorted
    by what each saw on average, and none of the others: a way of lying, standing or running, where
    all together are often the same. "lively ways": the same among the liveliest explorations only,
    so that skills move. "directions": more or less of one component of the observation than most
    explorations have, whatever the others are; each in turn, those of motion before those of
    posture. "velocities": the same, without what turns back at once, such as the rate at which the
    body rolls, so that most skills go somewhere. Observations that are no vectors have ways in the
    place of both."""
    clusters: int = _at_least(2, 8)
    """Clusters that explorations are sorted into, of which one is drawn."""
    lively: float = _in(0.01, 1.0, 0.25)
    """Share of the explorations that are the liveliest: their observations change most from step to
    step."""
    extreme: float = _in(0.001, 0.5, 0.1)
    """Share of the explorations, or of the observations, that goes farthest in a direction."""
    archived: int = _at_least(0, 5_000)
    """Negatives of each finished skill that the archive keeps; 0 keeps none."""
    archive_size: int = _at_least(0, 500_000)
    """Negatives that the archive keeps in all: beyond, each skill's are cut to the same number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.explores_from == "way" and self.negative_steps <= self.positive_steps:
            raise InvalidValueError(
                f"negative_steps should be more than positive_steps, {self.positive_steps}, where "
                f"exploration sets out from the way. Received {self.negative_steps}."
            )


@dataclass(frozen=True)
class GuideRecipe(_Checked):
    """The previous skill acts first, so that the new one starts where the last one led.

    Guided transitions are not learnt from. Environment 0 is never guided.
    """

    max_steps: int = _at_least(0, 0)
    """The previous skill acts for the first U[0, max_steps) steps of an episode, but for no more
    than its own episodes last; 0 switches the guide off."""
    until: float = _in(0.0, 1.0, 2 / 3)
    """Share of a skill's training, and of each extension, during which episodes are guided."""


@dataclass(frozen=True)
class RestartRecipe(_Checked):
    """Episodes of training begin from saved states on the way of the skill's parent.

    An alternative to the guide, which takes as many steps as it leads. For environments that can
    save and restore their state: MuJoCo's, the maze, and Atari's games, in processes.
    """

    share: float = _in(0.0, 1.0, 0.0)
    """Share of the episodes that do; 0 switches it off."""
    until: float = _in(0.0, 1.0, 0.5)
    """Share of a skill's training, and of each extension, during which they do."""


AgentName = Literal["ppo", "recurrent-ppo", "sac", "recurrent-sac"]


@dataclass(frozen=True)
class AgentRecipe(_Checked):
    """The agent that learns a skill. What SAC has no use for is said there."""

    num_envs: int = _at_least(1, 64)
    """Environments that are trained in side by side."""
    n_steps: int = _at_least(1, 64)
    """Steps of each environment between two updates."""
    batch_size: int = _at_least(2, 512)
    """Transitions of a gradient step; of "recurrent-sac", those in its sequences together."""
    n_epochs: int = _at_least(1, 5)
    """Passes over the transitions of an update; not of SAC."""
    learning_rate: float = _at_least(0.0, 6e-4)
    """Adam's learning rate; of "ppo", that of the last policy layer and of the value network."""
    hidden_learning_rate: float = _at_least(0.0, 0.5)
    """For "ppo": learning rate of the policy's hidden layers, as a share of `learning_rate`."""
    gamma: float = _in(0.0, 1.0, 0.99)
    """Discount factor of future rewards, in [0, 1]."""
    gae_lambda: float = _in(0.0, 1.0, 0.95)
    """Discount of the advantage estimator (GAE), in [0, 1]; not of SAC."""
    clip_range: float = _at_least(0.0, 0.2)
    """Largest relative change of an action's probability that is rewarded in an update; not of
    SAC."""
    ent_coef: float = _at_least(0.0, 6e-4)
    """Weight of the policy's entropy in the loss; SAC learns it."""
    ent_coef_rewarded: float = _at_least(0.0, 6e-4)
    """The same at transitions with a positive reward; of "ppo" alone."""
    vf_coef: float = _at_least(0.0, 0.5)
    """Weight of the value function's error in the loss; not of SAC."""
    max_grad_norm: float = _at_least(0.0, 0.5)
    """Largest norm of the gradient; not of SAC."""
    reward_scale: float = _at_least(0.0, 0.25)
    """Factor on the reward, so that returns fit the value function."""
    final_noise: float = _in(1e-3, 1.0, 0.1)
    """Share of the noise of continuous actions that is left at the end of a skill's training: a
    skill should not be the noise itself. 1 leaves all of it, as in the paper. SAC's noise is learnt
    alone."""
    anneal_from: float = _in(0.0, 0.99, 0.6)
    """Share of `steps_per_skill` after which training ends at the latest: from then on the noise
    shrinks linearly, for the rest of the steps."""
    hidden: tuple[int, ...] = (128, 128)
    """Units of the hidden layers, of the policy and of the value network alike."""
    activation: Literal["silu", "tanh", "relu"] = "silu"
    """Non-linearity of the hidden layers."""


@dataclass(frozen=True)
class MemoryRecipe(_Checked):
    """The memory of "recurrent-ppo" and "recurrent-sac"; the others have none.

    `agent.hidden` are the layers behind it. It learns online, a GRU by SnAp-1.
    """

    cell: Literal["linear-rtu", "lru", "nonlinear-rtu", "gru"] = "linear-rtu"
    """Kind of the recurrent layers: recurrent trace units, linear recurrent units, or a GRU."""
    state_size: int = _at_least(1, 64)
    """Units of a recurrent layer."""
    encoder: tuple[int, ...] = (128,)
    """Units of the layers in front of it."""
    chunk: int = _at_least(1, 16)
    """Steps of a chunk that is learnt from; with PPO it divides `agent.n_steps` and
    `agent.batch_size`."""
    burn_in: int = _at_least(0, 16)
    """Steps in which SAC's sequences are only remembered, before the chunk."""


@dataclass(frozen=True)
class ReplayRecipe(_Checked):
    """The replay buffer of "sac" and "recurrent-sac"; the others have none.

    It outlives a skill: what it holds is scored anew by every new reward.
    """

    buffer_size: int = _at_least(1, 500_000)
    """Transitions that it holds."""
    gradient_steps: int = _at_least(1, 256)
    """Gradient steps between two rollouts of `agent.n_steps` steps."""
    learning_starts: int = _at_least(0, 10_000)
    """Environment steps of a run, with random actions, before the first gradient step."""
    tau: float = _in(0.0, 1.0, 0.005)
    """Share of the critics that goes into the target critics in a gradient step."""


@dataclass(frozen=True)
class TransferRecipe(_Checked):
    """What a new skill's agent takes over from the last one."""

    head: Literal["noise", "zero", "keep"] = "noise"
    """The last policy layer of a new skill. "noise": the mean action is kept and its noise is wide
    again, so that the new skill begins where the search for its reward's positives began. "zero":
    all of it is set to zero, as in the paper; discrete actions, whose logits are all noise, always
    so unless "keep"."""
    reuse_value: bool = True
    """Whether the new skill keeps the value network, as in the paper, or SAC's critics. Its replay
    buffer, scored anew, and its entropy coefficient always stay."""
    reuse_features: bool = True
    """Whether the new skill keeps the policy's hidden layers, as in the paper."""
    normalizer_decay: float = _in(0.0, 1.0, 0.1)
    """Factor on the observation normaliser's step count: old statistics fade, but are not lost."""


@dataclass(frozen=True)
class DiaynRecipe(_Checked):
    """What the methods "diayn" and "metra" learn beside the agent; others have no use for it."""

    epochs: int = _at_least(1, 1)
    """Passes over the observations of a rollout."""
    learning_rate: float = _at_least(0.0, 1e-3)
    """Adam's learning rate."""


@dataclass(frozen=True)
class Recipe(_Checked):
    """Every setting of a discovery run. ``recipe_for`` gives the one that suits an environment."""

    env: str
    """Id of the environment, as in ``gymnasium.make``."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment, written as JSON on the command line."""
    method: Literal["neural-rewards", "random-rewards", "diayn", "metra"] = "neural-rewards"
    """How skills are learnt. "neural-rewards": one after another, each on a reward fitted to ask
    for something new (Meier & Mujika 2022). To compare with: "random-rewards", the same with reward
    networks drawn at random, for which nothing is explored or fitted; "diayn", all together, told
    apart by a discriminator (Eysenbach et al. 2019), and "metra", all together, sent far apart in a
    representation of time (Park et al. 2024), for which of the other groups only `agent`, `diayn`
    and `reward.hidden` count."""
    algorithm: AgentName = "ppo"
    """What learns a skill: SkillPPO, PPO with a memory, SAC, or SAC with a memory. SAC is for
    continuous actions; "diayn" and "metra" are on "ppo" alone."""
    generations: int = _at_least(1, 10)
    """Skills to discover."""
    steps_per_skill: int = _at_least(1, 1_000_000)
    """The most environment steps that a skill is trained for, in each of its attempts."""
    extension: int = _at_least(1, 500_000)
    """Environment steps by which the training of a skill that earns too little goes on."""
    extensions: int = _at_least(0, 0)
    """How often it goes on at most."""
    extend_below: float = _in(0.0, 1.0, 0.5)
    """It goes on if in the last tenth of its steps it earned less than this share of the target."""
    patience: float = _in(0.0, 0.5, 0.1)
    """A skill's training begins to end as soon as the reward during this share of
    `steps_per_skill` is no better than during the share before it; 0 lets every skill take all of
    its steps, as in the paper."""
    attempts: int = _at_least(1, 3)
    """Rewards that are tried for a skill until it is live. One that is not met at all after a fifth
    of `steps_per_skill` is given up at once. 1 keeps every skill, as in the paper."""
    parent: Literal["last", "any", "frontier"] = "last"
    """The skill that a new one starts from, from which is explored for positives and whose weights
    are taken over: the last one, as in the paper; or, so that skills branch, mostly the untrained
    policy and otherwise any earlier skill, drawn at random ("any"); or, of images and positions on
    a grid, the one from which exploration came upon most that is still new ("frontier")."""
    evaluation_episodes: int = _at_least(1, 10)
    """Episodes, from ordinary resets, that a finished skill is evaluated on."""
    evaluation_steps: int = _at_least(1, 1_000)
    """The most steps of such an episode that count."""
    reward: RewardRecipe = RewardRecipe()
    samples: SampleRecipe = SampleRecipe()
    guide: GuideRecipe = GuideRecipe()
    restarts: RestartRecipe = RestartRecipe()
    agent: AgentRecipe = AgentRecipe()
    memory: MemoryRecipe = MemoryRecipe()
    replay: ReplayRecipe = ReplayRecipe()
    transfer: TransferRecipe = TransferRecipe()
    diayn: DiaynRecipe = DiaynRecipe()

    @property
    def target(self) -> float:
        """What a perfect skill earns a step."""
        return math.log(self.generations) if self.learnt_together else self.reward.target

    @property
    def learnt_together(self) -> bool:
        """Whether the method learns all skills at once."""
        return self.method in ("diayn", "metra")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learnt_together and self.generations < 2:
            raise InvalidValueError(
                f"{self.method} tells skills apart: generations should be at least 2. Received "
                f"{self.generations}."
            )
        if self.algorithm != "ppo" and self.learnt_together:
            raise InvalidValueError(
                f"{self.method} is on 'ppo' alone. Received the algorithm {self.algorithm!r}."
            )
        if self.algorithm != "ppo" and self.guide.max_steps > 0:
            raise InvalidValueError(
                f"The guide is for 'ppo' alone: set guide.max_steps to 0 for {self.algorithm!r}. "
                f"Received {self.guide.max_steps}."
            )
        starts = self.replay.learning_starts
        if self.algorithm in ("sac", "recurrent-sac") and starts >= self.steps_per_skill:
            raise InvalidValueError(
                f"replay.learning_starts should be less than the {self.steps_per_skill:,} steps of "
                f"the first skill, in which nothing would be learnt. Received {starts:,}."
            )
        check_arguments(self.env_kwargs)


def recipe_from_json(value: dict[str, Any]) -> Recipe:
    """Return the recipe that ``dataclasses.asdict`` turned into JSON.

    Settings that an earlier skillrl did not have take their generic defaults: enough to read a run,
    but not to go on with it.

    Raises:
        InvalidValueError: if the environment is missing, or a field is unknown or not of its type.
    """
    return from_json(Recipe, value, "recipe", defaults=True)
