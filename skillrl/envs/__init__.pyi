from .atari import AtariEnv as AtariEnv
from .atari import AtariVectorEnv as AtariVectorEnv
from .make import make_vec as make_vec
from .mask_velocity import MaskVelocity as MaskVelocity
from .mask_velocity import MaskVelocityVectorWrapper as MaskVelocityVectorWrapper
from .maze import MazeEnv as MazeEnv
from .maze import MazeVectorEnv as MazeVectorEnv
from .memory_tasks import RepeatPreviousEnv as RepeatPreviousEnv
from .memory_tasks import TMazeEnv as TMazeEnv
from .mujoco import MujocoVectorEnv as MujocoVectorEnv
from .neural_reward import NeuralRewardVectorWrapper as NeuralRewardVectorWrapper
from .neural_reward import NeuralRewardWrapper as NeuralRewardWrapper
from .previous_action_reward import PreviousActionReward as PreviousActionReward
from .previous_action_reward import (
    PreviousActionRewardVectorWrapper as PreviousActionRewardVectorWrapper,
)
from .restarts import RestartVectorWrapper as RestartVectorWrapper
from .sb3 import SB3VecEnv as SB3VecEnv
from .skill_actions import SkillActionWrapper as SkillActionWrapper
from .skill_conditioned import SkillConditionedVectorWrapper as SkillConditionedVectorWrapper
from .spaces import reward_for as reward_for
