from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image

from records import new_record
from skillrl.agents import SkillPolicy
from skillrl.commands.map_places import map_places, table
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.places import places
from skillrl.discovery.recipes import recipe_for
from skillrl.envs.atari import AtariEnv
from skillrl.envs.atari.replay import replay
from skillrl.errors import InvalidValueError
from skillrl.files import read_json
from skillrl.rewards import NeuralReward

NOTHING, LEFT = 0, 4


@pytest.fixture
def library(tmp_path: Path) -> SkillLibrary:
    """A run of Montezuma's Revenge with a skill that waits and one that goes to the left."""
    recipe = recipe_for("skillrl/MontezumaRevenge-v5")
    library = SkillLibrary.create(tmp_path / "run", recipe, seed=0)
    space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    for index, action in enumerate((NOTHING, LEFT)):
        policy = SkillPolicy(space, spaces.Discrete(18), lambda _: 0.0, hidden=(4,))
        with torch.no_grad():
            policy.action_net.weight.zero_()
            policy.action_net.bias.copy_(100 * torch.eye(18)[action])
        record = new_record(index, env=recipe.env, env_kwargs=recipe.env_kwargs)
        library.add(policy, NeuralReward((4, 84, 84), "image", hidden=4), record)
    policy.save(library.untrained)
    return library


def test_places_are_those_of_the_same_actions_played_again(library: SkillLibrary) -> None:
    found, pictures = places(library, 1, episodes=1, steps=8, seed=7)
    again = replay("montezuma_revenge", [LEFT] * 8, seed=7)
    where = zip(*(again.probe[name][1:].tolist() for name in ("room", "x", "y")), strict=True)
    counts: dict[tuple[int, int, int], int] = {}
    for place in where:
        counts[place] = counts.get(place, 0) + 1
    assert {(room, x, y): n for room, x, y, n in found.steps} == counts
    assert len(counts) > 3
    assert found.cells == len({(x // 8, y // 8) for _, x, y in counts}) < len(counts)
    assert found.rooms == {1: 1} and found.items == {} and found.score == 0
    np.testing.assert_array_equal(pictures[1], again.frames[1])


def test_an_episode_with_two_keys_counts_once(
    library: SkillLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = iter([{"room": 1, "x": 77, "y": 235, "inventory": bits} for bits in (0, 0b10, 0b1110)])
    monkeypatch.setattr(AtariEnv, "probe", lambda game: next(probes))
    found, _ = places(library, 0, episodes=1, steps=2)
    assert found.items == {"key": 1}


def test_a_map_is_drawn_of_all_skills(library: SkillLibrary) -> None:
    path, visited = map_places(library.path, episodes=1)
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) > 300
    described = read_json(library.path / "map.json")["played"]
    assert [each["rooms"] for each in described] == [{"1": 1}] * 3
    assert [each["skill"] for each in described] == [None, 0, 1]
    line = "skill 1, in 1 episodes: room 1 (1); picked up: nothing; score 0"
    assert table(visited).splitlines()[2] == line


def test_skills_that_act_alike_do_not_share_their_luck(library: SkillLibrary) -> None:
    # Both act uniformly: by the same draws, one of which once took the key.
    policy = library[1].policy
    with torch.no_grad():
        policy.get_parameter("action_net.bias").zero_()
    policy.save(library.untrained)
    policy.save(library[1].path / "policy.safetensors")
    untrained, skill, again = (
        places(library, player, episodes=1, steps=50)[0].steps for player in (None, 1, 1)
    )
    assert untrained != skill == again


def test_of_other_environments_there_is_no_map(tiny_run: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"Where the agent is in .* is not known"):
        map_places(tiny_run)
