"""haproxy.cfg by itself: HAProxy takes it, and its names are those of the code. Its work: tests/stack/test_scale.py."""

import os
import re
import subprocess

import pytest

from frontend.settings import Settings
from frontend.triton import UTTERANCE_HEADER
from tests.conftest import REPOSITORY
from tests.stack.scaled import CONFIG, HAPROXY

TEXT = CONFIG.read_text()


@pytest.mark.parametrize("settings", [{}, {"NAMESERVER": "127.0.0.11:53", "TRITON_NAME": "elsewhere"}])
def test_haproxy_takes_it_without_a_warning(settings: dict[str, str]) -> None:
    assert HAPROXY is not None, "haproxy is not installed (on Debian: apt install haproxy)"
    environment = {"PATH": os.environ["PATH"], **settings}
    told = subprocess.run([HAPROXY, "-c", "-f", CONFIG], env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "WARNING" not in told.stderr


def test_what_belongs_to_an_utterance_is_known_by_the_header_that_the_frontend_sends() -> None:
    assert set(re.findall(r"req\.hdr\(([\w-]+)\)", TEXT)) == {UTTERANCE_HEADER}


def test_every_variable_has_a_default_or_is_asked_for() -> None:
    used, preset = set(re.findall(r"\$\{(\w+)\}", TEXT)), set(re.findall(r"presetenv (\w+)", TEXT))
    assert used - preset == set(re.findall(r"\.if defined\((\w+)\)", TEXT)) == {"NAMESERVER"}
    assert preset <= used


def test_the_names_and_ports_are_those_of_compose_as_they_stand() -> None:
    preset = dict(re.findall(r"presetenv (\w+) (\S+)", TEXT))
    compose = (REPOSITORY / "compose.yaml").read_text()
    for server in ("triton", "frontend"):
        assert f"aliases: [{preset[f'{server.upper()}_NAME']}]" in compose
    assert f"haproxy{preset['GRPC_BIND']}" in compose


def test_a_triton_that_hangs_is_called_down_before_the_frontend_gives_up_looking_for_another() -> None:
    triton = TEXT.partition("backend tritons")[2].partition("backend frontends")[0]
    (checks,) = re.findall(r"inter (\d)s fastinter (\d+)ms downinter \d+ms fall 2 ", triton)
    (timeout_s,) = re.findall(r"timeout check (\d)s", TEXT)
    called_down_s = int(checks[0]) + int(timeout_s) + int(checks[1]) / 1000 + int(timeout_s)
    assert called_down_s < 2 * Settings.model_fields["accept_s"].default


def test_haproxy_is_more_patient_than_the_frontend() -> None:
    minutes = {name: 60 * int(value) for name, value in re.findall(r"timeout (client|server|tunnel) (\d+)m", TEXT)}
    fields = Settings.model_fields
    assert min(minutes["client"], minutes["server"]) > fields["stall_s"].default
    assert minutes["tunnel"] > fields["idle_timeout_s"].default
