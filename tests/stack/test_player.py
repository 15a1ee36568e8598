"""The ring buffer in the browser's audio thread: every sample once, a little in advance, and an end without a click.

Rendered offline in a real browser, so that what would be heard can be compared sample by sample.
"""

import json
from typing import Any

import pytest

from tests.stack.browsing import Visit
from tests.stack.conftest import OpenPage
from tests.stack.serving import Serve

pytestmark = pytest.mark.stack

# The audio thread takes messages when it comes to it: loaded before the player, this has it say so of each.
ECHO = """const register = registerProcessor;
globalThis.registerProcessor = (name, Player) => register(name, class extends Player {
  receive(message) {
    super.receive(message);
    this.port.postMessage({ type: "received" });
  }
});
"""
# A player that renders `seconds` offline: what it tells, and a way to tell it something that returns once it has heard.
PLAYER = """async (seconds) => {
  const context = new OfflineAudioContext(1, 24000 * seconds, 24000);
  const echo = URL.createObjectURL(new Blob([ECHO], { type: "text/javascript" }));
  for (const module of [echo, "static/pcm-player.js"]) await context.audioWorklet.addModule(module);
  const player = new AudioWorkletNode(context, "pcm-player", { numberOfInputs: 0, outputChannelCount: [1] });
  player.connect(context.destination);
  const events = [], waiting = [];
  player.port.onmessage = ({ data }) => data.type === "received" ? waiting.shift()() : events.push(data);
  const tell = (message) => new Promise((heard) => {
    waiting.push(heard);
    player.port.postMessage(message);
  });
  const at = (moment, act) => context.suspend(moment).then(async () => {
    await act();
    context.resume();
  });
  const render = async () => {
    const heard = (await context.startRendering()).getChannelData(0);
    await tell({ type: "end" });  // behind all that it told while it rendered
    return heard;
  };
  return { events, tell, at, render };
}"""
EVERY_SAMPLE = """async () => {
  const { events, tell, at, render } = await (PLAYER)(14);
  const value = (place) => 0.25 + (place % 1009) / 4096;
  const push = async (from, to) => {
    for (let place = from; place < to; place += 777) {
      const samples = Float32Array.from({ length: Math.min(777, to - place) }, (_, i) => value(place + i));
      await tell({ type: "push", samples });
    }
  };
  await tell({ type: "begin", id: "u" });
  await push(0, 24000 * 10);
  at(11, async () => {
    await push(24000 * 10, 24000 * 12);
    await tell({ type: "end" });
  });
  const heard = await render();
  const starts = heard.indexOf(value(0));
  const late = heard.findIndex((sample, place) => place >= 24000 * 11 && sample > 0.1);
  let wrong = 0;
  for (let place = 0; place < 24000 * 10; place += 1) if (heard[starts + place] !== value(place)) wrong += 1;
  for (let place = 0; place < 24000 * 2; place += 1)
    if (heard[late + place] !== value(24000 * 10 + place)) wrong += 1;
  const quiet = heard.slice(starts + 24000 * 10 + 480, late).every((sample) => Math.abs(sample) < 1e-6);
  const last = events.filter(({ type }) => type === "position").at(-1);
  return { wrong, quiet, starts, late: late / 24000, last, types: [...new Set(events.map(({ type }) => type))] };
}"""
RAMP = """async () => {
  const { events, tell, at, render } = await (PLAYER)(1);
  const push = (seconds) => tell({ type: "push", samples: new Float32Array(24000 * seconds).fill(0.5) });
  await tell({ type: "begin", id: "u" });
  await push(0.119);
  at(0.256, () => push(0.5));
  at(0.512, () => tell({ type: "clear", id: "u" }));
  const heard = await render();
  const clear = 24000 * 0.512;
  const ramp = Array.from(heard.slice(clear, clear + 121));
  return {
    first: heard.findIndex((sample) => sample !== 0) / 24000,
    before: heard[clear - 1],
    falls: ramp.every((sample, i) => i === 0 || sample < ramp[i - 1] || sample === 0),
    step: Math.max(...ramp.slice(1).map((sample, i) => Math.abs(sample - ramp[i]))),
    silent: heard.slice(clear + 120).every((sample) => sample === 0),
    events: [...new Set(events.map(({ type }) => type))],
  };
}"""


@pytest.fixture
def visit(open_page: OpenPage, stack: Serve) -> Visit:
    """Any page of the server may load the player; what the test loads beside it the page would not allow."""
    visit = open_page(bypass_csp=True)
    visit.open(f"http://127.0.0.1:{stack.ports.frontend}/")
    return visit


def told_by(visit: Visit, script: str) -> Any:
    return visit.page.evaluate(script.replace("PLAYER", PLAYER.replace("ECHO", json.dumps(ECHO))))


def test_the_player_plays_every_sample_once(visit: Visit) -> None:
    """Pieces of odd sizes, more than the ring first holds; the second half comes too late."""
    told = told_by(visit, EVERY_SAMPLE)
    assert (told["wrong"], told["quiet"]) == (0, True)
    assert told["starts"] < 24_000 * 0.05
    assert told["late"] == pytest.approx(11, abs=0.01)
    last = told["last"]
    assert (last["played"], last["buffered"], last["underruns"]) == (24_000 * 12, 0, 1)
    assert set(told["types"]) == {"started", "position", "drained"}


def test_the_player_waits_for_a_little_and_ends_in_a_ramp(visit: Visit) -> None:
    told = told_by(visit, RAMP)
    assert told["first"] == pytest.approx(0.256, abs=0.01)
    assert told["before"] == 0.5
    assert told["falls"]
    assert told["step"] < 0.01
    assert told["silent"]
    assert "silent" in told["events"]
