"""The contract is one: config.pbtxt, the model's lists, the frontend's table, and the engine's request agree."""

import ast
from dataclasses import fields
from typing import Any

import pytest

from frontend import triton_contract
from tests.conftest import REPOSITORY, Contract
from tts_engine import Speak

MODEL_FILE = REPOSITORY / "model_repository" / "qwen3_tts" / "1" / "model.py"


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    """The constants of model.py, which only Triton's own process can import."""
    values: dict[str, Any] = {}
    for statement in ast.parse(MODEL_FILE.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            value = evaluated(statement.value, values)
            if value is not None:
                values[statement.targets[0].id] = value
    return values


def evaluated(expression: ast.expr, known: dict[str, Any]) -> Any:
    """A tuple of texts, in which a starred name stands for a tuple already known; None for anything else."""
    if not isinstance(expression, ast.Tuple):
        return None
    items: list[str] = []
    for element in expression.elts:
        if isinstance(element, ast.Starred) and isinstance(element.value, ast.Name):
            items += known[element.value.id]
        elif isinstance(element, ast.Constant) and isinstance(element.value, str):
            items.append(element.value)
        else:
            return None
    return tuple(items)


def declared(tensors: Any) -> dict[str, str]:
    """Names and types, as the contract file writes them."""
    return {
        tensor.name: tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name
        for tensor in tensors
    }


def test_the_frontend_knows_every_tensor_and_its_type(contract: Contract) -> None:
    assert declared(contract.input) == triton_contract.INPUTS
    assert declared(contract.output) == triton_contract.OUTPUTS


def test_the_model_reads_every_input_once_and_writes_every_output(contract: Contract, model: dict[str, Any]) -> None:
    assert sorted(model["INPUTS"]) == sorted(declared(contract.input))
    assert sorted(model["OUTPUTS"]) == sorted(declared(contract.output))
    assert len(set(model["INPUTS"])) == len(model["INPUTS"])


def test_the_model_reads_each_input_as_what_it_is(contract: Contract, model: dict[str, Any]) -> None:
    types = declared(contract.input)
    assert {types[name] for name in model["_TEXTS"]} == {"TYPE_STRING"}
    assert {name for name, kind in types.items() if kind == "TYPE_STRING"} == set(model["_TEXTS"])
    assert {tensor.name for tensor in contract.input if list(tensor.dims) == [-1]} == set(model["_ARRAYS"])


def test_a_request_to_the_engine_has_the_inputs_as_its_fields(contract: Contract) -> None:
    of_triton_alone = {"acknowledge", "cancel", "describe"}
    assert {field.name for field in fields(Speak)} == set(declared(contract.input)) - of_triton_alone
    optional = {field.name for field in fields(Speak) if field.default is None}
    assert optional == {field.name for field in fields(Speak)} - {"text"}


def test_every_input_may_be_left_out_and_holds_one_value_but_the_sound(contract: Contract) -> None:
    # Text too: a description is asked for without it.
    assert all(tensor.optional for tensor in contract.input)
    assert {tensor.name: list(tensor.dims) for tensor in contract.input} == {
        name: [-1] if name == "reference_audio" else [1] for name in declared(contract.input)
    }
    assert {tensor.name: list(tensor.dims) for tensor in contract.output} == {"audio": [-1], "info": [1]}


def test_triton_leaves_batching_to_the_engine(contract: Contract) -> None:
    assert (contract.name, contract.backend, contract.max_batch_size) == ("qwen3_tts", "python", 0)
    assert contract.model_transaction_policy.decoupled
    assert [group.count for group in contract.instance_group] == [1]
    assert not contract.HasField("dynamic_batching")
    assert not contract.HasField("sequence_batching")
