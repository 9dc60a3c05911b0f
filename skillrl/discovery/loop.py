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

import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from skillrl.agents import OnPolicySkillAgent, load_policy
from skillrl.discovery.archive import Archive
from skillrl.discovery.asking import asked_for, component_of, lasting, told_apart_by
from skillrl.discovery.checkpoint import load_checkpoint, read_progress, save_checkpoint
from skillrl.discovery.evaluation import Evaluation
from skillrl.discovery.events import (
    OnEvent,
    Preparing,
    RewardFitted,
    RunStarted,
    SkillFinished,
    Trained,
)
from skillrl.discovery.frontier import frontier_for
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.logs import run_logger
from skillrl.discovery.memory import Memory, memory_for
from skillrl.discovery.progress import (
    Progress,
    converged,
    ending,
    helped_until,
    may_try_again,
    too_little,
    untouched,
)
from skillrl.discovery.samples import (
    CountedSteps,
    Score,
    gather_negatives,
    gather_positives,
    gather_states,
)
from skillrl.discovery.settings import Recipe
from skillrl.discovery.training import make_agent, make_envs, stagger_episodes, train
from skillrl.discovery.transfer import transfer
from skillrl.envs import NeuralRewardVectorWrapper, RestartVectorWrapper, reward_for
from skillrl.errors import DamagedFileError, RunStopped
from skillrl.randomness import drawn_aside
from skillrl.rewards import fit_reward

# How often a skill that may start from any other one starts from the untrained policy: where all
# earlier skills lie down, most of what is explored from them lies down too.
UNTRAINED_SHARE = 0.75


class Discovery:
    """The state of a run, and its steps in the order in which ``run`` takes them.

    Args:
        library: an empty one, or that of a run to go on with.
        recipe: every setting.
        on_event: called when a reward was fitted, after each update, and with each new skill.
        should_stop: asked before each rollout.
        num_threads: threads that step environments, or None for one on each usable CPU.
        device: where the networks are.
    """

    def __init__(
        self,
        library: SkillLibrary,
        recipe: Recipe,
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        num_threads: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.library = library
        self.recipe = recipe
        self.on_event = on_event
        self.should_stop = should_stop
        self.device = device
        self.progress = Progress(generation=0, first_step=0)
        self.checkpoint = library.path / "checkpoint" / "latest.safetensors"
        self._archive_path = library.path / "archive.safetensors"
        self._frontier_path = library.path / "frontier.safetensors"

        torch.manual_seed(self._seed("networks"))
        samples = recipe.samples
        # With states, explorations are repeated from where the way there has led once.
        self.sample_env = CountedSteps(
            make_envs(recipe, samples.num_envs, num_threads=num_threads, saves_states=True)
        )
        space = self.sample_env.single_observation_space
        self.reward = reward_for(space, target=recipe.reward.target, hidden=recipe.reward.hidden)
        self.reward.to(device)
        if self.reward.kind != "image":
            torch.set_num_threads(1)
        self.frontier = frontier_for(recipe, self.reward)
        # At once: what follows takes the memory, and a while.
        on_event(RunStarted(self.memory()))
        restarts = recipe.restarts.share > 0
        envs = make_envs(
            recipe, recipe.agent.num_envs, num_threads=num_threads, saves_states=restarts
        )
        self.restarts = None
        if restarts:
            self.restarts = envs = RestartVectorWrapper(envs, recipe.restarts.share)
        self.train_env = NeuralRewardVectorWrapper(envs, self.reward)
        self.evaluation = Evaluation(recipe, self.reward, num_threads)
        self.archive = Archive(
            *(self.reward.shape, np.dtype(space.dtype), samples.archived, samples.archive_size)
        )
        self.agent = make_agent(recipe, self.train_env, device)
        if not library.untrained.exists():
            self._save_untrained_policy()
        # The last skill's policy, and that of the skill that the new one starts from.
        self.previous = load_policy(library.untrained, device)
        self.parent = self.previous
        self._first_reward = copy.deepcopy(self.reward.state_dict())
        # Last, so that no file stays open where one of the above fails.
        self.agent.set_logger(run_logger(library.path, self._steps_taken()))

    def run(self) -> None:
        """Discover skills until there are as many as the recipe asks for.

        Raises:
            RunStopped: if ``should_stop`` said so.
        """
        for generation in range(len(self.library), self.recipe.generations):
            if not self.resumed(generation):
                self.begin(generation)
                self.ask_for_something_new()
            self.train()
            while not self.finish_skill():
                self.begin_again()
                self.ask_for_something_new()
                self.train()

    def memory(self) -> Memory:
        """Return what observations will take at most."""
        space, state = self.sample_env.single_observation_space, None
        if self.recipe.restarts.share > 0:
            self.sample_env.reset(seed=0)
            state = self.sample_env.get_state()
        return memory_for(self.recipe, space, state)

    def ask_for_something_new(self) -> None:
        """Fit a reward to what lies beyond the parent, and let the agent begin to train on it."""
        negatives, reached, explorations = self.gather_samples()
        positives, others = self.choose(reached, explorations)
        self.stop_if_asked()
        self.fit_reward(negatives, positives, others)
        self.archive_negatives(negatives)
        self.transfer()

    def stop_if_asked(self) -> None:
        """Stop before the present skill's training, which begins anew when the run is resumed.

        Where an attempt was trained in vain it goes on, for seconds, up to the training of the next
        one, with which it can be saved.

        Raises:
            RunStopped: if ``should_stop`` says so.
        """
        if self.progress.attempt == 0 and self.should_stop():
            raise RunStopped("Stopped. The run can be resumed.", trained=False)

    def _seed(self, purpose: str) -> int:
        """A seed for one purpose in the present generation, so that runs can be resumed."""
        words = [self.library.seed, self.generation, *purpose.encode()]
        words += [self.progress.attempt] if self.progress.attempt else []
        return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)

    def _save_untrained_policy(self) -> None:
        """Let the untrained policy's normaliser see what the untrained policy does, and save it."""
        policy, seed = self.agent.policy, self._seed("untrained")
        if policy.normalizers:
            followed = gather_negatives(self.sample_env, policy, self.recipe.samples, seed)
            for normalizer in policy.normalizers:
                normalizer.update(torch.as_tensor(followed.visited))
        policy.save(self.library.untrained)

    def _steps_taken(self) -> int:
        """The run's steps up to its last skill or checkpoint, whichever is later."""
        steps = sum(skill.record.steps for skill in self.library)
        if self.checkpoint.exists():
            steps = max(steps, read_progress(self.checkpoint, Progress).steps)
        return steps

    @property
    def generation(self) -> int:
        """The present skill's number."""
        return self.progress.generation

    def begin(self, generation: int) -> None:
        """Begin with a new skill."""
        steps = sum(self.library[index].record.steps for index in range(generation))
        self.take_up(Progress(generation, first_step=steps))
        if self._memory(generation).exists():
            self.agent.load_memory(self._memory(generation))

    def begin_again(self) -> None:
        """Begin the present skill anew: another parent, other positives, another reward.

        What was trained in vain counts among the skill's steps and seconds.
        """
        given_up, steps = self.progress, self.agent.num_timesteps
        self.take_up(
            Progress(
                given_up.generation,
                first_step=steps,
                attempt=given_up.attempt + 1,
                skipped_steps=given_up.skipped_steps + steps - given_up.first_step,
                sample_steps=given_up.sample_steps,
                seconds=given_up.seconds,
                given_up=(*given_up.given_up, given_up.asked),
            )
        )

    def take_up(self, progress: Progress) -> None:
        """Take up the last skill's policy and reward, what is known of those before, a parent."""
        self.progress = progress
        self.sample_env.steps = 0
        generation = progress.generation
        torch.manual_seed(self._seed("generation"))
        last_reward = self._first_reward
        if generation > 0:
            last = self.library[generation - 1]
            self.previous = last.policy.to(self.device)
            last_reward = last.reward.state_dict()
        self.reward.load_state_dict(last_reward)
        self.recall(generation)
        self.parent = self.previous
        if progress.parent is not None or self.recipe.parent != "frontier":
            self.choose_parent()

    def recall(self, generation: int) -> None:
        """Take up what was seen before a generation: without it, others would be asked for."""
        kept = {self._archive_path: self.archive, self._frontier_path: self.frontier}
        for path, memory in kept.items():
            if memory is None or (generation == 0 and not path.exists()):
                continue
            if not path.exists():
                raise DamagedFileError(
                    f"{path} does not exist, and the run cannot go on without it: bring it back, "
                    "or begin a new run."
                )
            memory.restore(path, generation)

    def choose_parent(self) -> None:
        """Choose the skill to start from, unless that was done before the run was stopped."""
        if self.progress.parent is None:
            self.progress.parent = self._chosen_parent()
        index = self.progress.parent
        self.parent = self.previous
        if index != self.generation - 1:
            untrained = load_policy(self.library.untrained, self.device)
            self.parent = untrained if index < 0 else self.library[index].policy.to(self.device)

    def _chosen_parent(self) -> int:
        """Number of a skill to start from; -1 for the untrained policy."""
        if self.recipe.parent == "last":
            return self.generation - 1
        if self.recipe.parent == "frontier":
            assert self.frontier is not None
            parents = [self.library[index].record.parent for index in range(self.generation)]
            return self.frontier.parent([-1 if index is None else index for index in parents])
        rng = np.random.default_rng(self._seed("parent"))
        if self.generation == 0 or rng.random() < UNTRAINED_SHARE:
            return -1
        return int(rng.integers(self.generation))

    def resumed(self, generation: int) -> bool:
        """Go on inside ``generation`` if a checkpoint of it exists."""
        if not self.checkpoint.exists() or not isinstance(self.agent, OnPolicySkillAgent):
            return False
        progress = read_progress(self.checkpoint, Progress)
        if progress.generation != generation:
            return False
        self.take_up(progress)
        self._set_schedules()
        self._set_starts()
        load_checkpoint(self.checkpoint, self.agent, self.train_env, self.reward)
        self._share_restarts(self.agent.num_timesteps - progress.first_step)
        return True

    def gather_samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gather what the last skill does, and what exploration from its parent reaches.

        With the latter the number of the exploration that reached each observation.
        """
        started = time.monotonic()
        self.on_event(Preparing(self.generation, "gathering samples"))
        samples, envs = self.recipe.samples, self.sample_env
        score, seed = self._own_score(self.generation - 1), self._seed("positives")
        followed = gather_negatives(envs, self.previous, samples, self._seed("negatives"), score)
        self.stop_if_asked()
        negatives, explored = followed.visited, None
        if self.frontier is not None:
            self.frontier.see(negatives, self.generation, followed.begins)
        if self.frontier is not None and self.recipe.parent == "frontier":
            explored = gather_positives(envs, self.previous, samples, followed, seed, score)
            self.frontier.reach(explored[0], self.generation)
            self.choose_parent()
        if self.parent is not self.previous:
            explored = None
            assert self.progress.parent is not None
            del followed  # with the states that it holds
            score, aside = self._own_score(self.progress.parent), self._seed("parent's end")
            followed = gather_negatives(envs, self.parent, samples, aside, score, keep=False)
        self.progress.parent_lasts = followed.lasts
        if explored is None:
            explored = gather_positives(envs, self.parent, samples, followed, seed, score)
        reached, explorations = explored
        if self.generation == 0 and self.reward.kind == "vector":
            # Frozen from here on: a reward must mean the same in every generation.
            self.reward.standardise(torch.as_tensor(np.concatenate([negatives, reached])))
        self.progress.seconds += time.monotonic() - started
        return negatives, reached, explorations

    def choose(
        self, reached: np.ndarray, explorations: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose what the new reward is to ask for of what was reached; the rest is other ways."""
        started = time.monotonic()
        samples, points = self.recipe.samples, reached
        if self.reward.kind == "vector":
            tensor = torch.as_tensor(reached, device=self.device)
            points = self.reward.standardised(tensor).cpu().numpy()
        rng = np.random.default_rng(self._seed("wanted"))
        kind = samples.asks_for[self.generation % len(samples.asks_for)]
        earlier = [self.library[index].record.asked or "" for index in range(self.generation)]
        earlier += self.progress.given_up
        new = None if self.frontier is None else self.frontier.unseen(reached)
        wanted, asked = asked_for(kind, points, explorations, samples, rng, earlier, new)
        positives, others = reached, reached[~wanted]
        if len(others):  # images are not copied in vain
            positives = reached[wanted]
        if (component := component_of(asked)) is not None:
            # Who falls is no example of what goes with the component.
            lasted = lasting(explorations)
            positives, others = told_apart_by(component, positives, reached[lasted & ~wanted], rng)
            others = np.concatenate([others, reached[~lasted]])
        self.progress.asked = asked
        self.progress.seconds += time.monotonic() - started
        return positives, others

    def _own_score(self, index: int) -> Score | None:
        """What observations earn of a skill's own reward, in targets; None if none is asked for.

        Its own was not fitted to anything else yet.
        """
        if index < 0 or self.recipe.samples.earned == 0:
            return None
        reward = self.library[index].reward.to(self.device)
        return lambda observations: reward.reward(observations) / reward.target

    def fit_reward(self, negatives: np.ndarray, positives: np.ndarray, others: np.ndarray) -> None:
        """Train the reward network on, to ask for the positives and for nothing seen before."""
        started = time.monotonic()
        self.on_event(Preparing(self.generation, "fitting its reward"))
        fit = self.recipe.reward
        separation = fit_reward(
            self.reward,
            positives,
            negatives,
            self.archive.observations,
            others,
            steps=fit.steps,
            max_fits=fit.max_fits,
            batch_size=fit.batch_size,
            learning_rate=fit.learning_rate,
            weight_decay=fit.weight_decay,
            generator=torch.Generator().manual_seed(self._seed("fit")),
        )
        self.progress.separation = separation
        self.progress.seconds += time.monotonic() - started

    def archive_negatives(self, negatives: np.ndarray) -> None:
        """Keep some of the negatives for the fits of all later generations."""
        rng = np.random.default_rng(self._seed("archive"))
        first: ArrayLike = ()
        if self.frontier is not None:
            # What the archive forgot a reward may ask for.
            first = self.frontier.first_seen(negatives, self.generation, rng)
            self.frontier.save(self._frontier_path)
        self.archive.add(negatives, self.generation, rng, first)
        self.archive.save(self._archive_path)

    def transfer(self) -> None:
        """Start the new skill's agent from its parent's weights."""
        transfer(self.parent, self.agent, self.recipe.transfer)
        self.agent.rescore(self._score)
        reused = self.recipe.transfer.reuse_features and self.recipe.transfer.reuse_value
        if self.parent is not self.previous or not reused:
            self.agent.forget_states()
        self.agent.num_timesteps = self.progress.first_step
        self._set_schedules()
        self._set_starts()
        self.progress.sample_steps += self.sample_env.steps
        self._share_restarts(steps=0)
        self.agent.start_from_reset(self._seed("training"))
        stagger_episodes(self.train_env, self._seed("stagger"))
        fresh_reward, _ = self.evaluation.rewards(
            self.agent.policy, self._seed("evaluation"), noise=True
        )
        self.progress.fresh_reward = fresh_reward
        separation, attempt = self.progress.separation, self.progress.attempt
        self.on_event(RewardFitted(self.generation, separation, fresh_reward, attempt))

    def train(self) -> None:
        """Train the agent on the reward alone, until it has converged or is not worth it."""
        recipe, progress = self.recipe, self.progress
        before = progress.seconds
        until = progress.first_step + recipe.steps_per_skill
        until += recipe.extensions * recipe.extension

        def checkpoint(seconds: float) -> None:
            progress.seconds = before + seconds
            self._save_checkpoint()

        for seconds in train(self.agent, until, checkpoint, self.should_stop):
            progress.seconds = before + seconds
            self.agent.logger.record("skill", self.generation)
            steps, reward = self.agent.num_timesteps - progress.first_step, self.agent.mean_reward
            self.on_event(Trained(self.generation, steps, reward))
            progress.rewards += (reward,)
            if progress.ending_from is None and converged(recipe, progress, steps):
                progress.ending_from = steps
                self._set_schedules()
            if untouched(recipe, progress, steps):
                break
            if steps >= ending(recipe, progress)[1]:
                if not too_little(recipe, progress):
                    break
                progress.extensions += 1
                self._set_schedules()
            self._share_restarts(steps)

    def finish_skill(self) -> bool:
        """Evaluate the skill beside those before it, from ordinary resets, and save it.

        False, and nothing is saved, if it is not live and another reward can still be tried.
        """
        policy, progress = self.agent.policy, self.progress
        record = self.evaluation.record(
            self.generation,
            policy,
            [self.previous] if self.parent is self.previous else [self.previous, self.parent],
            self._seed("evaluation"),
            asked=progress.asked or None,
            parent=None if progress.parent == -1 else progress.parent,
            steps=self.agent.num_timesteps - progress.first_step + progress.skipped_steps,
            seconds=progress.seconds,
            fresh_reward=progress.fresh_reward,
            separation=progress.separation,
            sample_steps=progress.sample_steps,
        )
        if not record.live and may_try_again(self.recipe, progress):
            return False
        # First: a skill that was saved is not trained again.
        self.agent.save_memory(self._memory(self.generation + 1))
        skill = self.library.add(policy, self.reward, record)
        self.checkpoint.unlink(missing_ok=True)
        self._memory(self.generation).unlink(missing_ok=True)
        self.on_event(SkillFinished(skill))
        return True

    def _memory(self, generation: int) -> Path:
        """Where an agent's replay buffer at the start of a generation is kept."""
        return self.checkpoint.with_name(f"replay-{generation:03d}.safetensors")

    def _score(self, observations: np.ndarray) -> np.ndarray:
        """The present reward of observations that an agent remembers."""
        # Stable-Baselines3 gives agents images with the channels first.
        if observations.shape[1:] != self.reward.shape:
            observations = np.moveaxis(observations, 1, -1)
        return self.reward.reward(observations)

    def close(self) -> None:
        """Close the environments and the logs."""
        for part in (self.sample_env, self.train_env, self.evaluation):
            part.close()
        self.agent.logger.close()

    def _set_schedules(self) -> None:
        """Tell the agent until when it is guided, and when its noise shrinks."""
        guide, first = self.recipe.guide, self.progress.first_step
        until = first + helped_until(self.recipe, self.progress, guide.until)
        # Beyond where the parent's own episodes end it would lead nowhere.
        steps = min(guide.max_steps, self.progress.parent_lasts or guide.max_steps)
        self.agent.set_guide(self.parent, steps, until)
        begin, end = ending(self.recipe, self.progress)
        self.agent.set_noise(first + begin, first + end, self.recipe.agent.final_noise)

    def _set_starts(self) -> None:
        """Let some of the episodes begin where the parent leads."""
        if self.restarts is not None:
            seed = self._seed("starts")
            self.restarts.forget_starts()  # before others are gathered
            # The same states when the run is resumed.
            with drawn_aside(seed, self.device):
                samples = self.recipe.samples
                starts = gather_states(self.sample_env, self.parent, samples, seed)
            self.restarts.set_starts(starts)

    def _share_restarts(self, steps: int) -> None:
        """Tell the environments which share of the episodes restarts after ``steps`` of a skill."""
        if self.restarts is not None:
            on = steps < helped_until(self.recipe, self.progress, self.recipe.restarts.until)
            self.restarts.share = self.recipe.restarts.share if on else 0.0

    def _save_checkpoint(self) -> None:
        # Environments that cannot tell their state are resumed at their skill's start, and so are
        # agents with a replay buffer.
        if hasattr(self.train_env, "get_state") and isinstance(self.agent, OnPolicySkillAgent):
            self.progress.steps = self.agent.num_timesteps
            save_checkpoint(self.checkpoint, self.agent, self.train_env, self.reward, self.progress)
