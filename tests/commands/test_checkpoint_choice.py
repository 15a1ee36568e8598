"""Which checkpoint is served: what the user names, else what is there, else the hub's, else the demo."""

import shutil
from pathlib import Path

import pytest

from commands import CommandFailed
from commands.checkpoint import check_checkpoint, choose_checkpoint
from commands.fetch_errors import HubUnreachable
from commands.hub_ids import DEFAULT_HUB_ID
from tests.conftest import Demo


def no_hub(models: Path, hub_id: str) -> Path:
    raise HubUnreachable("the hub is away")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_a_named_directory_comes_before_everything(demo: Demo, models: Path, workspace: Path) -> None:
    environment = {"QWEN3_TTS_MODEL": "/nowhere"}
    chosen = choose_checkpoint(str(demo()), environment, models, workspace, no_hub)
    assert chosen.directory == demo()
    assert chosen.is_untrained_demo


def test_the_environment_comes_before_the_models_folder(demo: Demo, models: Path, workspace: Path) -> None:
    shutil.copytree(demo(), models / "other")
    chosen = choose_checkpoint(None, {"QWEN3_TTS_MODEL": str(demo())}, models, workspace, no_hub)
    assert chosen.directory == demo()


def test_the_only_checkpoint_of_the_models_folder_is_taken(demo: Demo, models: Path, workspace: Path) -> None:
    shutil.copytree(demo(), models / "mine")
    shutil.copytree(demo(), models / ".unfinished-yours")
    (models / "notes").mkdir()
    chosen = choose_checkpoint(None, {"QWEN3_TTS_MODEL": ""}, models, workspace, no_hub)
    assert chosen.directory == models / "mine"


def test_several_checkpoints_are_listed_and_none_is_guessed(demo: Demo, models: Path, workspace: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(demo(), models / name)
    with pytest.raises(CommandFailed, match=r"holds 2 checkpoints.*/a, .*/b"):
        choose_checkpoint(None, {}, models, workspace, no_hub)


def test_without_any_checkpoint_the_default_is_fetched(demo: Demo, models: Path, workspace: Path) -> None:
    asked = []

    def fetch(folder: Path, hub_id: str) -> Path:
        asked.append((folder, hub_id))
        return demo()

    assert choose_checkpoint(None, {}, models, workspace, fetch).directory == demo()
    assert asked == [(models, DEFAULT_HUB_ID)]


def test_without_a_hub_the_demo_is_made_and_shouted_about(
    models: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = choose_checkpoint(None, {}, models, workspace, no_hub)
    assert chosen.is_untrained_demo
    assert chosen.directory.is_relative_to(workspace)
    told = capsys.readouterr().err
    assert "the hub is away" in told
    assert "UNTRAINED DEMO" in told


@pytest.mark.parametrize("name", ["Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice", "/nowhere/at/all", "nowhere", ""])
def test_what_the_user_names_is_never_replaced(name: str, models: Path, workspace: Path) -> None:
    with pytest.raises(CommandFailed):
        choose_checkpoint(name, {}, models, workspace, no_hub)
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["config.json", "vocab.json", "merges.txt", "model.safetensors", "speech_tokenizer/config.json"],
)
def test_each_missing_file_is_named(name: str, demo: Demo, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo(), tmp_path / "broken"))
    (folder / name).unlink()
    with pytest.raises(CommandFailed, match=f"{name.rpartition('/')[2]} is missing"):
        check_checkpoint(folder)


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\x02\0\0\0\0\0\0\0[]", b"no weights at all"])
def test_weights_that_are_none_are_named(content: bytes, demo: Demo, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo(), tmp_path / "broken"))
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CommandFailed, match=r"model\.safetensors is not a safetensors file"):
        check_checkpoint(folder)


def test_a_missing_shard_is_named(demo: Demo, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo(), tmp_path / "sharded"))
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    check_checkpoint(folder)
    index.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    with pytest.raises(CommandFailed, match=r"model-2\.safetensors"):
        check_checkpoint(folder)
