"""When spans are exported, and that the export never stands in the way."""

import os
import subprocess
import sys
import threading

import pytest

from frontend import trace_export


def test_nothing_is_exported_and_no_sdk_loaded_unless_it_is_asked_for() -> None:
    code = (
        "import sys; from frontend.trace_export import start_export; print(start_export(), 'requests' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None False\n"


def test_a_dead_collector_holds_up_our_end_only_so_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trace_export, "PATIENCE_S", 0.01)
    answered = threading.Event()
    trace_export._end(lambda: answered.wait() and None)
    answered.set()
    assert "the last spans were not taken" in caplog.text


def test_a_collector_that_answers_gets_the_last_spans(caplog: pytest.LogCaptureFixture) -> None:
    taken = threading.Event()
    trace_export._end(taken.set)
    assert taken.is_set()
    assert caplog.text == ""
