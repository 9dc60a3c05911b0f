"""Registers skillrl's environments with Gymnasium, by name only: nothing heavy is imported."""

from typing import Any

import gymnasium as gym

# id -> (Gymnasium's own class, batched entry point, steps in an episode, reward threshold), the
# last two as Gymnasium registers them.
_MUJOCO = {
    "Ant-v5": ("ant_v5:AntEnv", "ant", 1000, 6000.0),
    "HalfCheetah-v5": ("half_cheetah_v5:HalfCheetahEnv", "half_cheetah", 1000, 4800.0),
    "Hopper-v5": ("hopper_v5:HopperEnv", "hopper", 1000, 3800.0),
    "Humanoid-v5": ("humanoid_v5:HumanoidEnv", "humanoid", 1000, None),
    "HumanoidStandup-v5": (
        "humanoidstandup_v5:HumanoidStandupEnv",
        "humanoid_standup",
        1000,
        None,
    ),
    "InvertedDoublePendulum-v5": (
        "inverted_double_pendulum_v5:InvertedDoublePendulumEnv",
        "inverted_double_pendulum",
        1000,
        9100.0,
    ),
    "InvertedPendulum-v5": (
        "inverted_pendulum_v5:InvertedPendulumEnv",
        "inverted_pendulum",
        1000,
        950.0,
    ),
    "Pusher-v5": ("pusher_v5:PusherEnv", "pusher", 100, 0.0),
    "Reacher-v5": ("reacher_v5:ReacherEnv", "reacher", 50, -3.75),
    "Swimmer-v5": ("swimmer_v5:SwimmerEnv", "swimmer", 1000, 360.0),
    "Walker2d-v5": ("walker2d_v5:Walker2dEnv", "walker2d", 1000, None),
}

# ALE's games for one player, by ALE's names.
_ATARI = """
adventure air_raid alien amidar assault asterix asteroids atlantis atlantis2 backgammon
bank_heist basic_math battle_zone beam_rider berzerk blackjack bowling boxing breakout
carnival casino centipede chopper_command crazy_climber crossbow darkchambers defender
demon_attack donkey_kong double_dunk earthworld elevator_action enduro entombed et
fishing_derby flag_capture freeway frogger frostbite galaxian gopher gravitar hangman
haunted_house hero human_cannonball ice_hockey jamesbond journey_escape kaboom kangaroo
keystone_kapers king_kong klax koolaid krull kung_fu_master laser_gates lost_luggage
mario_bros miniature_golf montezuma_revenge mr_do ms_pacman name_this_game othello pacman
phoenix pitfall pitfall2 pong pooyan private_eye qbert riverraid road_runner robotank
seaquest sir_lancelot skiing solaris space_invaders space_war star_gunner superman surround
tennis tetris tic_tac_toe_3d time_pilot trondead turmoil tutankham up_n_down venture
video_checkers video_chess video_cube video_pinball wizard_of_wor word_zapper yars_revenge
zaxxon
"""

MUJOCO_IDS = tuple(_MUJOCO)
"""Gymnasium's ids of the MuJoCo tasks that ``skillrl/<id>`` steps in batches."""


def register_envs() -> None:
    """Register ``skillrl/HalfCheetah-v5`` and the others; repeated calls change nothing.

    ``gymnasium.make`` builds Gymnasium's own class of the task, ``gymnasium.make_vec`` the batched
    one. Gymnasium's ids stay as they are.

    Example:
        >>> register_envs()
        >>> gym.spec("skillrl/HalfCheetah-v5").vector_entry_point
        'skillrl.envs.mujoco:half_cheetah'
    """
    for name, (single, batched, max_episode_steps, reward_threshold) in _MUJOCO.items():
        _register(
            id=f"skillrl/{name}",
            entry_point=f"gymnasium.envs.mujoco.{single}",
            vector_entry_point=f"skillrl.envs.mujoco:{batched}",
            max_episode_steps=max_episode_steps,
            reward_threshold=reward_threshold,
        )
    for game in _ATARI.split():
        _register(
            id=f"skillrl/{game.title().replace('_', '')}-v5",
            entry_point="skillrl.envs.atari:AtariEnv",
            vector_entry_point="skillrl.envs.atari:AtariVectorEnv",
            max_episode_steps=27_000,  # ALE's half an hour
            kwargs={"game": game},
        )
    _register(
        id="skillrl/Maze2D-v0",
        entry_point="skillrl.envs.maze:MazeEnv",
        vector_entry_point="skillrl.envs.maze:MazeVectorEnv",
        max_episode_steps=250,
    )
    _register(id="skillrl/TMaze-v0", entry_point="skillrl.envs.memory_tasks:TMazeEnv")
    _register(
        id="skillrl/RepeatPrevious-v0", entry_point="skillrl.envs.memory_tasks:RepeatPreviousEnv"
    )


def _register(id: str, **arguments: Any) -> None:
    if id not in gym.registry:  # Gymnasium warns of a second registration
        gym.register(id=id, **arguments)
