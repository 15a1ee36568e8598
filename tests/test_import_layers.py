"""The layers: who may import whom. Read from the sources alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.sources import COMMANDS, ENGINE, FRONTEND, SOURCES, VERSION, name_of, tree_of

MODEL_FILE = VERSION / "model.py"

# Where HTTP and WebSockets are met; everything behind them is plain asyncio.
QUART_FILES = {
    *("app.py", "entrance.py", "intake.py", "server.py"),
    *("http_api.py", "http_models.py", "http_speech.py", "http_voices.py"),
}

# Engine modules, and the engine modules each may import; a package stands for its modules.
ENGINE_LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "counts": set(),
    "heap": set(),
    "config_reading": {"errors"},
    "model_config": {"config", "config_reading", "errors"},
    "codec_config": {"config", "config_reading", "errors", "model_config"},
    "threads": {"errors"},
    "devices": {"errors", "threads"},
    "audio": {"config", "errors"},
    "weights": {"errors"},
    "kv_cache": set(),
    "kernels": {"kernels"},
    "prefix_cache": set(),
    "sampling_values": set(),
    "sampling": {"config", "kernels", "model_config", "sampling_values"},
    "networks": {"networks", "codec_config", "config", "kernels", "kv_cache", "model_config", "weights"},
    "text": {"errors"},
    "segmentation": {"text"},
    "live_text": {"errors", "text"},
    "live_utterances": {"errors", "live_text"},
    "manifests": {"audio", "config", "errors"},
    "voice_library": {"errors", "manifests"},
    "voices": {"audio", "errors", "manifests", "model_config", "voice_library"},
    "voice_encoder": {"audio", "config", "errors", "manifests", "networks", "threads"},
    "playback": set(),
    "prompt": {"errors", "model_config", "text", "voices"},
    "checkpoint": {"codec_config", "errors", "model_config", "networks", "voice_encoder", "weights"},
    "request": {
        *("config", "errors", "model_config", "playback", "prompt", "sampling_values", "segmentation"),
        "voice_encoder",
    },
    "preparation": {
        *("checkpoint", "config", "errors", "live_text", "prompt", "request", "segmentation", "text"),
        *("voice_library", "voices"),
    },
    "pace": {"config"},
    "scheduler": {"request"},
    "turns": {"pace", "request", "scheduler"},
    "admission": {"config", "counts", "errors", "pace", "request"},
    "chunking": {"config", "playback"},
    "delivery": {"chunking", "request"},
    "metrics": {"config", "counts", "errors", "request"},
    "utterance_log": {"errors", "metrics", "request"},
    "inbox": {"live_utterances", "request", "voice_encoder"},
    "memory": {"config", "errors", "model_config"},
    "sizing": {"config", "memory", "model_config", "networks"},
    "acceleration": {"errors", "kernels"},
    "landing": {"config", "devices"},
    "slot_state": {
        *("config", "devices", "kv_cache", "memory", "model_config", "networks", "sampling", "sampling_values"),
    },
    "frame_step": {
        "audio",
        "checkpoint",
        "config",
        "kernels",
        "landing",
        "model_config",
        "networks",
        "sampling",
        "slot_state",
    },
    "frame_graphs": {"landing"},
    "prompt_reading": {
        *("checkpoint", "devices", "kv_cache", "memory", "model_config", "networks", "prefix_cache", "prompt"),
        *("slot_state", "voice_encoder"),
    },
    "warm_up": {
        *("config", "model_config", "prefix_cache", "prompt", "prompt_reading", "sampling_values", "slot_state"),
        "voice_encoder",
    },
    "runner": {
        *("checkpoint", "config", "errors", "frame_graphs", "frame_step", "landing", "memory", "model_config"),
        *("networks", "prefix_cache", "prompt", "prompt_reading", "sampling_values", "slot_state", "voice_encoder"),
        "warm_up",
    },
    "reading": {"prompt", "request", "runner"},
    "slots": {"config", "reading", "request", "runner", "scheduler", "turns"},
    "generation": {
        *("config", "counts", "errors", "pace", "prompt", "reading", "request", "runner", "scheduler", "slots"),
        "turns",
    },
    "loading": {
        *("acceleration", "checkpoint", "config", "devices", "runner", "sizing", "voice_encoder", "voice_library"),
    },
    "engine": {
        *("acceleration", "admission", "checkpoint", "config", "counts", "devices", "errors", "generation", "heap"),
        *(
            "inbox",
            "live_utterances",
            "loading",
            "pace",
            "preparation",
            "request",
            "runner",
            "threads",
            "voice_encoder",
            "voices",
        ),
    },
    "__init__": {
        "acceleration",
        "config",
        "counts",
        "delivery",
        "engine",
        "errors",
        "metrics",
        "request",
        "utterance_log",
    },
}


def package_of(path: Path) -> list[str]:
    """The dotted package a module lies in, as it is imported."""
    roots = {ENGINE: VERSION, FRONTEND: REPOSITORY, COMMANDS: REPOSITORY / "scripts"}
    root = next((root for place, root in roots.items() if path.is_relative_to(place)), VERSION)
    return list(path.relative_to(root).parts[:-1])


def imports(path: Path) -> Iterator[str]:
    """The absolute names of all modules a file imports, wherever in it, and of what it takes from them."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = package_of(path)
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def importers_of(package: str) -> set[Path]:
    return {path for path in SOURCES if any(name.split(".")[0] == package for name in imports(path))}


def engine_module(path: Path) -> str:
    """The layer of an engine file: its own name, or the package it lies in."""
    return path.relative_to(ENGINE).parts[0].removesuffix(".py")


def engine_imports(path: Path) -> set[str]:
    """The layers of the engine that an engine file imports."""
    found = {name.split(".")[1] for name in imports(path) if name.split(".")[0] == "tts_engine"}
    return found & set(ENGINE_LAYERS)


def test_the_walk_sees_the_sources() -> None:
    names = {name_of(path) for path in SOURCES}
    assert "model_repository/qwen3_tts/1/tts_engine/networks/talker.py" in names
    assert {"frontend/app.py", "scripts/commands/render.py"} <= names
    assert "torch.nn.functional" in set(imports(ENGINE / "networks" / "talker.py"))
    expected = {"kernels", "kv_cache", "model_config", "networks", "weights"}
    assert engine_imports(ENGINE / "networks" / "talker.py") == expected


def test_only_the_model_file_knows_tritons_backend() -> None:
    assert importers_of("triton_python_backend_utils") == {MODEL_FILE}


def test_the_model_file_takes_public_names_of_the_engine_only() -> None:
    ours = {name for name in imports(MODEL_FILE) if name.split(".")[0] == "tts_engine"}
    exported = ast.literal_eval(
        next(
            statement.value
            for statement in tree_of(ENGINE / "__init__.py").body
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
        )
    )
    assert ours <= {f"tts_engine.{name}" for name in exported}


def test_the_engine_knows_nothing_around_it() -> None:
    for package in ("frontend", "commands", "tritonclient", "grpc", "quart", "hypercorn", "pydantic"):
        assert not [name_of(path) for path in importers_of(package) if path.is_relative_to(VERSION)]


def test_the_frontend_knows_neither_the_engine_nor_its_numbers() -> None:
    for package in ("tts_engine", "torch", "safetensors", "tokenizers", "commands", "triton_python_backend_utils"):
        assert not [name_of(path) for path in importers_of(package) if path.is_relative_to(FRONTEND)]


def test_commands_use_public_names_of_the_engine() -> None:
    for path in SOURCES:
        if path.is_relative_to(COMMANDS):
            assert not [name for name in imports(path) if name.startswith("tts_engine.") and name.count(".") > 1]


@pytest.mark.parametrize(
    ("package", "files"), [("tritonclient", {"triton.py", "triton_contract.py"}), ("grpc", {"triton.py"})]
)
def test_one_file_speaks_to_triton_and_one_more_knows_its_tensors(package: str, files: set[str]) -> None:
    inside = {path for path in importers_of(package) if not path.is_relative_to(COMMANDS)}
    assert inside == {FRONTEND / name for name in files}


def test_two_files_know_open_telemetry() -> None:
    assert importers_of("opentelemetry") == {FRONTEND / "tracing.py", FRONTEND / "trace_export.py"}


def test_nothing_that_serves_knows_that_it_is_measured() -> None:
    assert importers_of("benchmarks") == set()


def test_few_files_of_the_frontend_know_the_web_framework() -> None:
    assert importers_of("quart") <= {FRONTEND / name for name in QUART_FILES}
    assert FRONTEND / "app.py" in importers_of("quart")


@pytest.mark.parametrize("path", sorted(ENGINE.rglob("*.py")), ids=lambda path: str(path.relative_to(ENGINE)))
def test_an_engine_file_imports_only_what_lies_below_it(path: Path) -> None:
    layer = engine_module(path)
    assert layer in ENGINE_LAYERS, f"{path.name} has no place among the layers yet"
    assert engine_imports(path) <= ENGINE_LAYERS[layer]


def test_the_layers_have_no_circle() -> None:
    below: dict[str, set[str]] = {}

    def reach(layer: str, above: tuple[str, ...]) -> set[str]:
        assert layer not in above, f"{' -> '.join(above)} -> {layer}"
        if layer not in below:
            direct = ENGINE_LAYERS[layer] - {layer}
            below[layer] = direct.union(*(reach(inner, (*above, layer)) for inner in direct))
        return below[layer]

    assert reach("__init__", ()) == set(ENGINE_LAYERS) - {"__init__"}


@pytest.mark.parametrize(
    "name",
    [
        *("scheduler", "request", "delivery", "preparation", "engine", "generation", "inbox", "prompt"),
        *("admission", "counts", "pace", "reading", "slots", "turns"),
        *("voices", "voice_library", "manifests", "text", "live_text", "live_utterances", "segmentation"),
        *("config", "config_reading", "model_config", "codec_config", "sampling_values", "memory"),
    ],
)
def test_who_decides_touches_no_tensor(name: str) -> None:
    assert ENGINE / f"{name}.py" not in importers_of("torch")
