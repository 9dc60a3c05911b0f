"""Open-ended skill discovery with neural reward functions.

The method of Meier & Mujika (NeurIPS 2022, arXiv 2202.08266), top to bottom. Each generation

1. gathers *negatives*, what the last skill does, and *positives*, what lies just beyond its
   *parent*, the last skill or an earlier one;
2. fits the reward network further, so that it asks for the positives and for nothing seen before;
3. trains the agent on that reward alone, from the parent's weights;
4. evaluates the new skill and adds it to the library.

Generation 0 begins with the untrained policy in the place of a last skill.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.callbacks import BaseCallback

from skillrl.agents import SkillPolicy, SkillPPO
from skillrl.agents.spaces import check_spaces
from skillrl.discovery.archive import Archive
from skillrl.discovery.checkpoint import load_checkpoint, read_progress, save_checkpoint
from skillrl.discovery.descriptors import Descriptors, describe
from skillrl.discovery.events import OnEvent, RewardFitted, SkillFinished, Trained
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.logs import run_logger
from skillrl.discovery.recipes import Recipe
from skillrl.discovery.record import Record
from skillrl.discovery.samples import (
    episode_limit,
    episodes,
    gather_negatives,
    gather_positives,
    one_way,
)
from skillrl.discovery.transfer import transfer
from skillrl.envs import NeuralRewardVectorWrapper, SB3VecEnv, make_vec, reward_for
from skillrl.errors import InvalidValueError, RunStopped
from skillrl.rewards import NeuralReward, Separation, fit_reward

# Seconds between two checkpoints inside a skill.
CHECKPOINT_INTERVAL = 20.0
# A skill is live if it earns this share of the target and this multiple of what the last one does.
LIVE_SHARE, LIVE_RATIO = 0.2, 2.0


def discover(
    recipe: Recipe,
    run: str | PathLike[str],
    *,
    seed: int = 0,
    resume: bool = False,
    num_threads: int | None = None,
    on_event: OnEvent = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SkillLibrary:
    """Discover skills and save them to the folder ``run``.

    A run that is stopped at any moment resumes from its last checkpoint and ends with the same
    skills as one that never was (on the same machine; with images, with the same number of torch
    threads). Meanwhile torch runs on one thread unless observations are images: smaller networks
    wait for threads longer than they gain by them.

    Args:
        recipe: every setting.
        run: folder of the skill library; it should not exist unless ``resume``.
        seed: of everything random.
        resume: go on with the run in the folder; its own recipe should equal ``recipe``, up to
            the number of generations.
        num_threads: threads that step environments, or None for one on each usable CPU; skills
            do not depend on it.
        on_event: called when a reward was fitted, after each rollout, and with each new skill.
        should_stop: asked between rollouts; where it says so, a checkpoint is written and
            ``RunStopped`` raised.

    Returns:
        The library of all skills of the run.

    Raises:
        InvalidValueError: if the folder, the recipe or the environment cannot be used.
        RunStopped: if ``should_stop`` said so.
    """
    if seed < 0:
        raise InvalidValueError(f"A seed is a whole number from 0. Received {seed}.")
    library = open_library(run, recipe, seed, resume)
    with (
        library.locked(),
        own_torch_threads(),
        closing(Discovery(library, recipe, on_event, should_stop, num_threads)) as discovery,
    ):
        for generation in range(len(library), recipe.generations):
            if not discovery.resumed(generation):
                discovery.begin(generation)
                negatives, positives = discovery.gather_samples()
                discovery.fit_reward(negatives, positives)
                discovery.transfer()
            discovery.train()
            discovery.finish_skill()
    return library


@contextmanager
def own_torch_threads() -> Iterator[None]:
    """Leave torch the number of threads that it had before."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def open_library(run: str | PathLike[str], recipe: Recipe, seed: int, resume: bool) -> SkillLibrary:
    """Create the run's library, or open it to resume."""
    if not (resume and (Path(run) / "run.json").exists()):
        # Before a folder is made that a corrected command would find in its way.
        check_environment(recipe)
        return SkillLibrary.create(run, recipe, seed)
    library = SkillLibrary(run)
    library.check_resumable(recipe, seed)
    return library


def check_environment(recipe: Recipe) -> None:
    """Refuse a recipe whose environment does not exist, fails, or cannot be learnt in."""
    env = make_envs(recipe, recipe.agent.num_envs)
    try:
        check_spaces(env.single_observation_space, env.single_action_space)
        reward_for(env.single_observation_space)
        make_agent(recipe, env)
        try:
            env.reset(seed=0)
            env.action_space.seed(0)
            env.step(env.action_space.sample())
        except Exception as error:
            raise InvalidValueError(
                f"{recipe.env} with the arguments {recipe.env_kwargs} fails in its first step: "
                f"{type(error).__name__}: {error}"
            ) from error
    finally:
        env.close()


class Discovery:
    """The state of a run, and its steps in the order in which ``discover`` takes them."""

    def __init__(
        self,
        library: SkillLibrary,
        recipe: Recipe,
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        num_threads: int | None = None,
    ) -> None:
        self.library = library
        self.recipe = recipe
        self.on_event = on_event
        self.should_stop = should_stop
        self.generation = 0
        self.checkpoint = library.path / "checkpoint" / "latest.safetensors"

        torch.manual_seed(self._seed("networks"))
        samples = recipe.samples
        self.sample_env = make_envs(recipe, samples.num_envs, num_threads=num_threads)
        space = self.sample_env.single_observation_space
        self.reward = reward_for(space, target=recipe.reward.target, hidden=recipe.reward.hidden)
        if self.reward.kind != "image":
            torch.set_num_threads(1)
        self.train_env = make_envs(recipe, recipe.agent.num_envs, self.reward, num_threads)
        self.evaluation_env = make_envs(
            recipe, recipe.evaluation_episodes, self.reward, num_threads
        )
        self.archive = Archive(self.reward.shape, np.dtype(space.dtype), samples.archived)
        self.agent = make_agent(recipe, self.train_env)
        if not library.untrained.exists():
            self._save_untrained_policy()
        # The last skill's policy, and that of the skill that the new one starts from.
        self.previous = SkillPolicy.load(library.untrained)
        self.parent = self.previous
        self.progress: dict[str, Any] = {}
        # Last, so that no file stays open where one of the above fails.
        self.agent.set_logger(run_logger(library.path, self._steps_taken()))

    def _seed(self, purpose: str) -> int:
        """A seed for one purpose in the present generation, so that runs can be resumed."""
        words = [self.library.seed, self.generation, *purpose.encode()]
        return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)

    def _save_untrained_policy(self) -> None:
        """Let the untrained policy's normaliser see what the untrained policy does, and save it."""
        policy, seed = self.agent.policy, self._seed("untrained")
        if policy.normalizer is not None:
            visited, _ = gather_negatives(self.sample_env, policy, self.recipe.samples, seed)
            policy.normalizer.update(torch.as_tensor(visited))
        policy.save(self.library.untrained)

    def _steps_taken(self) -> int:
        """The run's steps up to its last skill or checkpoint, whichever is later."""
        steps = len(self.library) * self.recipe.steps_per_skill
        if self.checkpoint.exists():
            steps = max(steps, read_progress(self.checkpoint)["steps"])
        return steps

    @property
    def _first_step(self) -> int:
        """The agent's number of time steps when the present skill's training begins."""
        return self.generation * self.recipe.steps_per_skill

    def begin(self, generation: int) -> None:
        """Take up the last skill's policy and reward, and the archive before it; draw a parent."""
        self.generation = generation
        torch.manual_seed(self._seed("generation"))
        self.progress = {"generation": generation, "seconds": 0.0}
        if generation > 0:
            last = self.library[generation - 1]
            self.previous = last.policy
            self.reward.load_state_dict(last.reward.state_dict())
            self.archive.restore(self.library.path / "archive.safetensors", generation)
        self.parent = self.previous
        if self.parent_index != generation - 1:
            index = self.parent_index
            untrained = SkillPolicy.load(self.library.untrained)
            self.parent = untrained if index < 0 else self.library[index].policy

    @property
    def parent_index(self) -> int:
        """Number of the skill that the present one starts from; -1 for the untrained policy."""
        if self.recipe.parent == "last":
            return self.generation - 1
        rng = np.random.default_rng(self._seed("parent"))
        return int(rng.integers(-1, self.generation))

    def resumed(self, generation: int) -> bool:
        """Go on inside ``generation`` if a checkpoint of it exists."""
        if not self.checkpoint.exists():
            return False
        progress = read_progress(self.checkpoint)
        if progress["generation"] != generation:
            return False
        self.begin(generation)
        self._set_schedules()
        load_checkpoint(self.checkpoint, self.agent, self.train_env, self.reward)
        self.progress = progress
        return True

    def gather_samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Gather what the last skill does and what exploration from its parent's end reaches."""
        started = time.monotonic()
        samples, envs = self.recipe.samples, self.sample_env
        negatives, end = gather_negatives(envs, self.previous, samples, self._seed("negatives"))
        if self.parent is not self.previous:
            _, end = gather_negatives(envs, self.parent, samples, self._seed("parent's end"))
        positives, explorations = gather_positives(
            envs, self.parent, samples, end, self._seed("positives")
        )
        if self.generation == 0:
            # Frozen from here on: a reward must mean the same in every generation.
            self.reward.standardise(torch.as_tensor(np.concatenate([negatives, positives])))
        if samples.ways > 1:
            seen = self.reward.standardised(torch.as_tensor(positives)).numpy()
            rng = np.random.default_rng(self._seed("way"))
            positives = positives[one_way(seen, explorations, samples.ways, rng)]
        self.progress["seconds"] += time.monotonic() - started
        return negatives, positives

    def fit_reward(self, negatives: np.ndarray, positives: np.ndarray) -> None:
        """Train the reward network on, and archive the negatives for later generations."""
        started = time.monotonic()
        fit = self.recipe.reward
        separation = fit_reward(
            self.reward,
            positives,
            negatives,
            self.archive.observations,
            steps=fit.steps,
            max_fits=fit.max_fits,
            batch_size=fit.batch_size,
            learning_rate=fit.learning_rate,
            weight_decay=fit.weight_decay,
            generator=torch.Generator().manual_seed(self._seed("fit")),
        )
        rng = np.random.default_rng(self._seed("archive"))
        self.archive.add(negatives, self.generation, rng)
        self.archive.save(self.library.path / "archive.safetensors")
        self.progress["separation"] = dataclasses.asdict(separation)
        self.progress["seconds"] += time.monotonic() - started

    def transfer(self) -> None:
        """Start the new skill's agent from its parent's weights."""
        transfer(self.parent, self.agent, self.recipe.transfer)
        self.agent.num_timesteps = self._first_step
        self._set_schedules()
        self.agent.start_from_reset(self._seed("training"))
        stagger_episodes(self.train_env, self._seed("stagger"))
        fresh_reward, _ = self._evaluate(self.agent.policy, deterministic=False)
        self.progress["fresh_reward"] = fresh_reward
        separation = Separation(**self.progress["separation"])
        self.on_event(RewardFitted(self.generation, separation, fresh_reward))

    def train(self) -> None:
        """Train the agent on the reward alone."""
        started, before = time.monotonic(), self.progress["seconds"]
        saved = started

        def before_rollout() -> None:
            nonlocal saved
            now = time.monotonic()
            self.progress["seconds"] = before + now - started
            stop = self.should_stop()
            if stop or now - saved > CHECKPOINT_INTERVAL:
                self._save_checkpoint()
                saved = now
            if stop:
                raise RunStopped(f"Stopped. The run in {self.library.path} can be resumed.")

        def after_rollout() -> None:
            self.agent.logger.record("skill", self.generation)
            steps = self.agent.num_timesteps - self._first_step
            self.on_event(Trained(self.generation, steps, self.agent.mean_reward))

        self.agent.learn(
            self._first_step + self.recipe.steps_per_skill - self.agent.num_timesteps,
            _Rollouts(before_rollout, after_rollout),
            log_interval=4,
            reset_num_timesteps=False,
        )
        self.progress["seconds"] = before + time.monotonic() - started

    def finish_skill(self) -> None:
        """Evaluate the skill beside those before it, from ordinary resets, and save it."""
        policy, target = self.agent.policy, self.recipe.reward.target
        mean_reward, task_return = self._evaluate(policy)
        before = [self.previous] if self.parent is self.previous else [self.previous, self.parent]
        previous_reward = max(self._evaluate(policy)[0] for policy in before)
        live = mean_reward >= LIVE_SHARE * target and mean_reward >= LIVE_RATIO * previous_reward
        record = Record(
            index=self.generation,
            env=self.recipe.env,
            env_kwargs=self.recipe.env_kwargs,
            parent=None if self.parent_index < 0 else self.parent_index,
            steps=self.agent.num_timesteps - self._first_step,
            seconds=round(self.progress["seconds"], 1),
            mean_reward=mean_reward,
            target=target,
            previous_mean_reward=previous_reward,
            live=live,
            task_return=task_return if math.isfinite(task_return) else None,
            fresh_reward=self.progress["fresh_reward"],
            separation=Separation(**self.progress["separation"]),
            descriptors=self._describe(policy),
        )
        skill = self.library.add(policy, self.reward, record)
        self.checkpoint.unlink(missing_ok=True)
        self.on_event(SkillFinished(skill))

    def close(self) -> None:
        """Close the environments and the logs."""
        for env in (self.sample_env, self.train_env, self.evaluation_env):
            env.close()
        self.agent.logger.close()

    def _set_schedules(self) -> None:
        """Tell the agent until when it is guided, and when its noise shrinks."""
        guide, agent, steps = self.recipe.guide, self.recipe.agent, self.recipe.steps_per_skill

        def step(share: float) -> int:
            return int((self.generation + share) * steps)

        self.agent.set_guide(self.parent, guide.max_steps, step(guide.until))
        self.agent.set_noise(step(agent.anneal_from), step(1.0), agent.final_noise)

    def _evaluate(self, policy: SkillPolicy, *, deterministic: bool = True) -> tuple[float, float]:
        seed, max_steps = self._seed("evaluation"), self.recipe.evaluation_steps
        # Evaluation draws no numbers that training would have drawn.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return episodes(
                *(self.evaluation_env, policy, seed),
                max_steps=max_steps,
                deterministic=deterministic,
            )

    def _describe(self, policy: SkillPolicy) -> Descriptors | None:
        recipe = self.recipe
        return describe(
            *(policy, recipe.env, recipe.env_kwargs),
            episodes=recipe.evaluation_episodes,
            steps=recipe.evaluation_steps,
            seed=self._seed("evaluation"),
        )

    def _save_checkpoint(self) -> None:
        # Environments that cannot tell their state are resumed at their skill's start.
        if hasattr(self.train_env, "get_state"):
            self.progress["steps"] = self.agent.num_timesteps
            save_checkpoint(self.checkpoint, self.agent, self.train_env, self.reward, self.progress)


class _Rollouts(BaseCallback):
    """Calls functions around rollouts: before, the agent's state is that of its last update."""

    def __init__(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        super().__init__()
        self._before, self._after = before, after

    def _on_rollout_start(self) -> None:
        self._before()

    def _on_rollout_end(self) -> None:
        self._after()

    def _on_step(self) -> bool:
        return True


def make_envs(
    recipe: Recipe,
    num_envs: int,
    reward: NeuralReward | None = None,
    num_threads: int | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Make ``num_envs`` of the recipe's environments, with a learned reward where one is given."""
    env = make_vec(
        recipe.env,
        num_envs,
        num_threads=num_threads,
        autoreset_mode=AutoresetMode.SAME_STEP,
        **recipe.env_kwargs,
    )
    return env if reward is None else NeuralRewardVectorWrapper(env, reward)


def stagger_episodes(env: VectorEnv[Any, Any, Any], seed: int) -> None:
    """Cut the first episodes at random, so that from then on a rollout shows every part of one.

    In step with each other, all environments would show the same part of an episode, and the agent
    would unlearn the others: on HalfCheetah it forgot in 1,000 steps how to begin.
    """
    limit = episode_limit(env)
    if limit is not None and hasattr(env, "get_state"):
        state = env.get_state()
        rng = np.random.default_rng(seed)
        state["elapsed_steps"] = rng.integers(limit, size=env.num_envs)
        env.set_state(state)  # type: ignore[attr-defined]


def make_agent(recipe: Recipe, env: VectorEnv[Any, Any, Any]) -> SkillPPO:
    """Make the recipe's agent for an environment with a learned reward."""
    settings = recipe.agent
    return SkillPPO(
        "SkillPolicy",
        SB3VecEnv(env, info_keys=()),
        learning_rate=settings.learning_rate,
        n_steps=settings.n_steps,
        batch_size=settings.batch_size,
        n_epochs=settings.n_epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        ent_coef=settings.ent_coef,
        ent_coef_rewarded=settings.ent_coef_rewarded,
        vf_coef=settings.vf_coef,
        max_grad_norm=settings.max_grad_norm,
        reward_scale=settings.reward_scale,
        policy_kwargs={
            "hidden": settings.hidden,
            "activation": settings.activation,
            "hidden_learning_rate": settings.hidden_learning_rate,
        },
        device="cpu",
    )
