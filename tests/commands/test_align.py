import dataclasses
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

from skillrl import cli
from skillrl.agents.normalizer import Normalizer
from skillrl.agents.policy_network import policy_network
from skillrl.agents.recipes import TrainRecipe
from skillrl.agents.returns import Episodes, Task
from skillrl.agents.zip_files import read_zip_policy
from skillrl.commands.align import Settings, align
from skillrl.commands.alignment_results import report
from skillrl.commands.policies import read_policies
from skillrl.commands.train import train
from skillrl.discovery.library import SkillLibrary, load_skill
from skillrl.errors import DamagedFileError, InvalidValueError, NotEquivalentError
from skillrl.permutation import Alignments, Transformation, symmetry_groups

RECIPE = TrainRecipe(
    *("Echo-v0", "recurrent-ppo"),
    timesteps=256,
    n_envs=4,
    eval_every=10_000,
    eval_episodes=2,
    normalize=True,
    agent_kwargs={
        "n_steps": 16,
        "batch_size": 32,
        "chunk": 8,
        "n_epochs": 4,
        "learning_rate": 0.05,
    },
    policy_kwargs={"state_size": 4, "encoder": [8], "net_arch": [8]},
)
QUICK = Settings(episodes=6, points=3)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    gym.register("Echo-v0", "echo:Echo", disable_env_checker=True)
    yield
    del gym.registry["Echo-v0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "echo"
    train(
        dataclasses.replace(RECIPE, env_kwargs={"paint": False}),
        run=run,
        seeds=3,
        progress=False,
    )
    return run


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An agent for CartPole, and one with other weights that does the same."""
    return make_copies(tmp_path_factory.mktemp("copies"))


def make_copies(folder: Path, **policy_kwargs: Any) -> list[Path]:
    agent = PPO(
        *("MlpPolicy", "CartPole-v1"),
        n_steps=512,
        batch_size=128,
        policy_kwargs=policy_kwargs,
        device="cpu",
        seed=0,
    )
    agent.learn(1_024)
    agent.save(folder / "first.zip")
    network = policy_network(read_zip_policy(folder / "first.zip"))
    groups = symmetry_groups(network, torch.randn(50, 4)).groups
    other = Transformation.random(groups, np.random.default_rng(0)).apply(network)
    agent.policy.load_state_dict(
        {
            name.removeprefix("policy."): value
            for name, value in other.state_dict().items()
            if name.startswith("policy.")
        }
    )
    agent.save(folder / "second.zip")
    return [folder / "first.zip", folder / "second.zip"]


def test_a_transformed_copy_is_in_the_same_mode(
    copies: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["align", *map(str, copies), "--env", "CartPole-v1", "--out", str(out)]
    assert cli.main([*words, "--episodes", "8"]) == 0
    text = capsys.readouterr()
    assert "One mode: barriers of at most 0.1 connect all policies once they are aligned" in (
        text.out
    )
    assert "networks scored" in text.err
    found = json.loads((out / "modes.json").read_text())
    assert found["clusters"] == [0, 0]
    assert found["before"][0][1] > 0.1
    assert found["after"][0][1] == pytest.approx(0, abs=1e-9)
    assert found["coordinates"] == "raw"
    assert found["functional_distance"][0][1] < 1e-5
    divergences = [found["action_kl_midway"][when][0][1] for when in ("before", "after")]
    assert divergences[0] > 1e-4
    assert divergences[1] == pytest.approx(0, abs=1e-6)
    assert found["parameter_distance"][0][1] > 0.1
    assert found["aligned_parameter_distance"][0][1] < 1e-5
    assert found["scores"][0] == found["scores"][1] > found["random_return"]
    assert found["settings"]["episodes"] == 8
    assert [each["name"] for each in found["policies"]] == ["first.zip", "second.zip"]
    assert [each["idle_units"] for each in found["policies"]] == [{}, {}]
    names = {"alignments.safetensors", "modes.json", "barriers.png", "curves.png"}
    assert {path.name for path in out.iterdir()} == names
    # What was done to the second makes it the first.
    first, second = (policy_network(read_zip_policy(path)) for path in copies)
    moved = Alignments.load(out / "alignments.safetensors", [first, second]).apply(1)
    name = "policy.mlp_extractor.policy_net.0.weight"
    torch.testing.assert_close(moved.get_parameter(name), first.get_parameter(name))
    # It is not written over, and neither is a file.
    assert cli.main([*words[:-1], str(out / "modes.json/x")]) == 1
    assert re.search(r"modes\.json is a file: name another folder", capsys.readouterr().err)
    assert cli.main(words) == 1
    assert "holds a result already" in capsys.readouterr().err


def test_units_that_never_change_are_reported(
    copies: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = PPO.load(copies[0], device="cpu")
    name = "mlp_extractor.policy_net.0"
    with torch.no_grad():
        agent.policy.get_parameter(f"{name}.weight")[[3, 40]] = 0.0
        agent.policy.get_parameter(f"{name}.bias")[[3, 40]] = 1.0
    agent.save(tmp_path / "idle.zip")
    words = ["align", str(copies[0]), str(tmp_path / "idle.zip"), "--env", "CartPole-v1"]
    assert cli.main([*words, "--out", str(tmp_path / "out"), "--episodes", "2"]) == 0
    told = rf"units of \S*idle\.zip 2 never .*by their weights: 2 of policy\.{name}\.weight\."
    assert re.search(told, capsys.readouterr().out)
    found = json.loads((tmp_path / "out/modes.json").read_text())
    idle = [each["idle_units"] for each in found["policies"]]
    assert idle == [{}, {f"policy.{name}.weight": [3, 40]}]


def test_permutations_alone_leave_the_signs(copies: list[Path], tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, signs=False)
    (found,), _ = align(copies, out=tmp_path, env="CartPole-v1", settings=settings, progress=False)
    assert found.modes.after[0][1] > 0.1
    assert found.modes.clusters == [0, 1]
    assert "2 modes" in report([found])
    assert "(first.zip); (second.zip)" in report([found])


def test_relu_units_are_scaled_where_that_is_wanted(tmp_path: Path) -> None:
    # One layer, of which units that never fire are found by their weights, too.
    copies = make_copies(tmp_path, activation_fn=torch.nn.ReLU, net_arch=[64])
    words = ["align", *map(str, copies), "--env", "CartPole-v1"]
    words += ["--episodes", "2", "--points", "3", "--out"]
    assert cli.main([*words, str(tmp_path / "permuted")]) == 0
    assert cli.main([*words, str(tmp_path / "scaled"), "--scales"]) == 0
    permuted, scaled = (
        json.loads((tmp_path / name / "modes.json").read_text()) for name in ("permuted", "scaled")
    )
    assert (permuted["settings"]["scales"], scaled["settings"]["scales"]) == (False, True)
    assert permuted["aligned_parameter_distance"][0][1] > 0.1
    assert scaled["aligned_parameter_distance"][0][1] < 1e-4


def test_all_seeds_of_a_run_are_compared(run: Path, tmp_path: Path) -> None:
    (found,), left_out = align([run], out=tmp_path / "out", settings=QUICK, progress=False)
    assert left_out == []
    assert found.names == ["seed-000", "seed-001", "seed-002"]
    assert found.task.env == "Echo-v0"
    assert found.task.env_kwargs == {"paint": False}
    assert found.coordinates == "shared"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"modes.json", "barriers.png", "curves.png", "plane.png"} < names
    content = json.loads((tmp_path / "out/modes.json").read_text())
    assert np.array(content["plane"]["scores"]).shape == (7, 7)
    assert np.array(content["after"]).shape == (3, 3)
    assert all(each["standard_error"] >= 0 for each in content["policies"])
    assert content["units"]["policy.mlp_extractor.policy_net.0.weight"] == 8
    flat = dataclasses.replace(QUICK, plane=False)
    (found,), _ = align([run], out=tmp_path / "flat", settings=flat, progress=False)
    assert found.plane is None
    assert not (tmp_path / "flat/plane.png").exists()


def test_seeds_and_files_of_a_run_know_their_environment(run: Path, tmp_path: Path) -> None:
    paths = [run / "seed-000", run / "seed-001/best.zip"]
    (found,), _ = align(paths, out=tmp_path / "out", settings=QUICK, progress=False)
    assert found.names == ["seed-000", "seed-001/best.zip"]
    assert found.task.env_kwargs == {"paint": False}


def test_a_normaliser_can_be_given(copies: list[Path], tmp_path: Path) -> None:
    with (tmp_path / "wide.npz").open("wb") as file:
        # Observations are all but zero behind it: the policy does something else.
        Normalizer(
            {
                "observation.mean": np.zeros(4),
                "observation.var": np.full(4, 1e6),
                "observation.count": np.array(1.0),
                "clip": np.array(10.0),
                "epsilon": np.array(1e-8),
            }
        ).write(file)
    arguments = {"env": "CartPole-v1", "settings": QUICK, "progress": False}
    plain, _ = align(copies, out=tmp_path / "plain", **arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="no more than a random policy"):
        align(
            copies,
            out=tmp_path / "wide",
            normalizers=[tmp_path / "wide.npz"],
            **arguments,  # type: ignore[arg-type]
        )
    assert plain[0].coordinates == "raw"
    with pytest.raises(InvalidValueError, match=r"one for each of these 2\. Received 3"):
        files = [tmp_path / "wide.npz"] * 3
        align(copies, out=tmp_path / "x", normalizers=files, **arguments)  # type: ignore[arg-type]
    with pytest.raises(
        InvalidValueError, match=r"mine\.zip one has a normaliser .* other has none"
    ):
        shutil.copy(copies[0], tmp_path / "mine.zip")
        with zipfile.ZipFile(tmp_path / "mine.zip", "a") as archive:
            archive.write(tmp_path / "wide.npz", "normalizer.npz")
        align([copies[1], tmp_path / "mine.zip"], out=tmp_path / "x", **arguments)  # type: ignore[arg-type]
    with pytest.raises(DamagedFileError, match=r"missing\.npz does not exist"):
        files = [tmp_path / "missing.npz"]
        align(copies, out=tmp_path / "x", normalizers=files, **arguments)  # type: ignore[arg-type]


def test_a_normaliser_can_be_given_to_sac(tmp_path: Path) -> None:
    for seed in range(2):
        agent = SAC("MlpPolicy", "Echo-v0", buffer_size=10, device="cpu", seed=seed)
        with torch.no_grad():
            # Better than chance, which earns nothing on average.
            agent.policy.actor.get_parameter("mu.bias").fill_(2.0)
        agent.save(tmp_path / f"sac-{seed}")
    with (tmp_path / "statistics.npz").open("wb") as file:
        Normalizer(
            {
                "observation.mean": np.array([102.0, 0.0]),
                "observation.var": np.ones(2),
                "observation.count": np.array(1.0),
                "clip": np.array(10.0),
                "epsilon": np.array(1e-8),
            }
        ).write(file)
    words = ["align", *(str(tmp_path / f"sac-{seed}.zip") for seed in range(2)), "--env", "Echo-v0"]
    words += ["--normalizer", str(tmp_path / "statistics.npz"), "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--episodes", "6", "--points", "3"]) == 0
    found = json.loads((tmp_path / "out/modes.json").read_text())
    assert found["coordinates"] == "shared"


def test_what_cannot_be_compared_is_refused(
    copies: list[Path], run: Path, tiny_run: Path, tmp_path: Path
) -> None:
    def refused(paths: list[Path], message: str, **arguments: object) -> None:
        with pytest.raises(InvalidValueError, match=message):
            align(
                paths,
                out=tmp_path / "out",
                settings=QUICK,
                progress=False,
                **arguments,  # type: ignore[arg-type]
            )

    refused(copies[:1], "At least two policies are compared", env="CartPole-v1")
    refused(copies, "first.zip does not say which environment it is for: name it with --env")
    refused([copies[0], run / "seed-000"], "different architectures: they are a ActorCriticPolicy")
    refused([run, tmp_path], r"is no skill's folder, .* and no seed's, which has an agent\.zip")
    refused([tiny_run], "The skills of at least two runs are paired")
    refused([tiny_run, run], "is none. Name single skills")
    refused([run], "--pair chooses from runs of `skillrl discover`", pair=["x:1"])
    refused([tiny_run, tiny_run], "Received 'x:1'", pair=["x:1"])
    for name, env in (("cart", "CartPole-v1"), ("pendulum", "Pendulum-v1")):
        PPO("MlpPolicy", env, device="cpu").save(tmp_path / name)
    PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8]}, device="cpu").save(
        tmp_path / "small"
    )
    refused(
        [tmp_path / "cart.zip", tmp_path / "small.zip"],
        r"cart.zip and small.zip are of different architectures: .* is \(64, 4\) in one and \(8, 4",
        env="CartPole-v1",
    )
    relu = {"activation_fn": torch.nn.ReLU}
    PPO("MlpPolicy", "CartPole-v1", policy_kwargs=relu, device="cpu").save(tmp_path / "relu")
    refused(
        [tmp_path / "cart.zip", tmp_path / "relu.zip"],
        r"cart.zip and relu.zip are .*: .*policy_net.1 is a Tanh in one and a ReLU in the other",
        env="CartPole-v1",
    )
    refused(
        [tmp_path / "cart.zip", tmp_path / "cart.zip"],
        "is for observations Box.*Pendulum-v1 has",
        env="Pendulum-v1",
    )
    other = Path(shutil.copytree(run, tmp_path / "other"))
    content = json.loads((other / "train.json").read_text())
    content["recipe"]["env_kwargs"] = {}
    (other / "train.json").write_text(json.dumps(content))
    refused([run, other], "different environments: .* of Echo-v0 with {'paint': False}")
    broken = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu")
    with torch.no_grad():
        broken.policy.actor.get_parameter("mu.bias").fill_(torch.nan)
    broken.save(tmp_path / "broken")
    refused([tmp_path / "broken.zip"] * 2, r"mu\.bias of .* not finite", env="Pendulum-v1")
    with pytest.raises(DamagedFileError, match=r"none\.zip does not exist"):
        align([tmp_path / "none.zip"], out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_settings_are_checked() -> None:
    for wrong in ({"points": 2}, {"episodes": 0}, {"threshold": -1.0}, {"seed": -1}):
        with pytest.raises(InvalidValueError, match=next(iter(wrong)).removesuffix("s")):
            Settings(**wrong)


def test_the_order_of_a_copied_library_is_found(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Skills this young may earn less than what chance does.
    monkeypatch.setattr(Episodes, "random_return", lambda self: -1.0)
    for number in range(2):
        policy = load_skill(tiny_run / f"skills/{number:03d}").policy
        with torch.no_grad():
            # The first one goes right, the second stays where it is.
            policy.mean_layer.bias[(4, 0)[number]] += 9.0
        policy.save(tiny_run / f"skills/{number:03d}/policy.safetensors")
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    shutil.move(other / "skills/000", other / "kept")
    shutil.move(other / "skills/001", other / "skills/000")
    shutil.move(other / "kept", other / "skills/001")
    for number in range(2):
        network = policy_network(load_skill(other / f"skills/{number:03d}").policy)
        inputs = network.tensors(np.random.default_rng(0).integers(0, 5, (50, 2)))
        groups = symmetry_groups(network, inputs).groups
        moved = Transformation.random(groups, np.random.default_rng(number)).apply(network)
        moved.policy.save(other / f"skills/{number:03d}/policy.safetensors")  # type: ignore[operator, union-attr]
    assert len(SkillLibrary(other)) == 2
    out = tmp_path / "out"
    found, left_out = align([tiny_run, other], out=out, settings=QUICK, progress=False)
    (paired,) = found
    content = json.loads((paired.folder / "modes.json").read_text())
    assert paired.folder == out / "pair-000"
    assert [Path(each["path"]) for each in content["policies"]] == [
        tiny_run / "skills/000",
        other / "skills/001",
    ]
    assert content["behaviour_distance"] == pytest.approx([0, 0], abs=1e-6)
    assert paired.modes.after[0][1] == pytest.approx(0, abs=1e-6)
    assert paired.modes.clusters == [0, 0]
    # Who sees one thing only is compared with nobody.
    assert len(left_out) == 1
    assert re.match("pair-001: No unit of network 0 changes", left_out[0])

    # Neither is whose proof fails.
    def unproven(*args: object, **kwargs: object) -> None:
        raise NotEquivalentError("It computes something else.")

    with monkeypatch.context() as patch:
        patch.setattr("skillrl.commands.align.align_pairs", unproven)
        with pytest.raises(InvalidValueError, match=r"pair-000: It computes .* pair-001: It"):
            align([tiny_run, other], out=tmp_path / "none", settings=QUICK, progress=False)
    # A pair may be named instead.
    words = [f"{tiny_run}:0", f"{other}:1"]
    (named,), _ = align(
        [tiny_run, other], out=tmp_path / "named", pair=words, settings=QUICK, progress=False
    )
    assert named.modes.scores == paired.modes.scores
    assert (tmp_path / "named/modes.json").is_file()


def test_agents_that_are_told_the_last_action_and_reward_are_compared_with_them(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    recipe = dataclasses.replace(RECIPE, previous_action_reward=True)
    outcomes = train(recipe, run=run, seeds=2, progress=False)
    seeds = [run / "seed-000", run / "seed-001"]
    task = Task("Echo-v0", previous_action_reward=True)
    assert [each.task for each in read_policies(seeds)] == [task, task]
    assert str(task) == "Echo-v0 with the last action and reward"

    align([run], out=tmp_path / "out", settings=Settings(episodes=3, points=3), progress=False)
    found = json.loads((tmp_path / "out/modes.json").read_text())
    assert found["task"] == dataclasses.asdict(task)
    # Both have learnt that an action is what it earns: five at the most, none by chance.
    assert all(score > 2 for score in found["scores"])
    assert [outcome.last.mean > 2 for outcome in outcomes] == [True, True]
