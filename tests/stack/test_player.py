"""The ring buffer in the browser's audio thread: every sample once, a little in advance, and an end without a click.

Rendered offline in a real browser, so that what would be heard can be compared sample by sample.
"""

import pytest

from tests.stack.browsing import Visit
from tests.stack.conftest import OpenPage
from tests.stack.serving import Serve

pytestmark = pytest.mark.stack


@pytest.fixture
def visit(open_page: OpenPage, stack: Serve) -> Visit:
    """Any page of the server may load the player."""
    visit = open_page()
    visit.open(f"http://127.0.0.1:{stack.ports.frontend}/")
    return visit


def test_the_player_plays_every_sample_once(visit: Visit) -> None:
    """Pieces of odd sizes, more than the ring first holds; the second half comes too late."""
    told = visit.page.evaluate(
        """async () => {
          const context = new OfflineAudioContext(1, 24000 * 14, 24000);
          await context.audioWorklet.addModule("static/pcm-player.js");
          const options = { numberOfInputs: 0, outputChannelCount: [1] };
          const player = new AudioWorkletNode(context, "pcm-player", options);
          player.connect(context.destination);
          const events = [];
          player.port.onmessage = ({ data }) => events.push(data);
          const value = (at) => 0.25 + (at % 1009) / 4096;
          const push = (from, to) => {
            for (let at = from; at < to; at += 777) {
              const samples = Float32Array.from({ length: Math.min(777, to - at) }, (_, i) => value(at + i));
              player.port.postMessage({ type: "push", samples });
            }
          };
          const settled = () => new Promise((done) => setTimeout(done, 100));
          player.port.postMessage({ type: "begin", id: "u" });
          push(0, 24000 * 10);
          context.suspend(11).then(async () => {
            push(24000 * 10, 24000 * 12);
            player.port.postMessage({ type: "end" });
            await settled();
            context.resume();
          });
          await settled();
          const heard = (await context.startRendering()).getChannelData(0);
          await settled();
          const starts = heard.indexOf(value(0));
          let wrong = 0;
          for (let at = 0; at < 24000 * 10; at += 1) if (heard[starts + at] !== value(at)) wrong += 1;
          const late = heard.findIndex((sample, at) => at >= 24000 * 11 && sample > 0.1);
          for (let at = 0; at < 24000 * 2; at += 1) if (heard[late + at] !== value(24000 * 10 + at)) wrong += 1;
          const quiet = heard.slice(starts + 24000 * 10 + 480, late).every((sample) => Math.abs(sample) < 1e-6);
          const last = events.filter(({ type }) => type === "position").at(-1);
          return { wrong, quiet, starts, last, types: [...new Set(events.map(({ type }) => type))] };
        }"""
    )
    assert (told["wrong"], told["quiet"]) == (0, True)
    assert told["starts"] < 24_000 * 0.05
    last = told["last"]
    assert (last["played"], last["buffered"], last["underruns"]) == (24_000 * 12, 0, 1)
    assert set(told["types"]) == {"started", "position", "drained"}


def test_the_player_waits_for_a_little_and_ends_in_a_ramp(visit: Visit) -> None:
    told = visit.page.evaluate(
        """async () => {
          const context = new OfflineAudioContext(1, 24000, 24000);
          await context.audioWorklet.addModule("static/pcm-player.js");
          const options = { numberOfInputs: 0, outputChannelCount: [1] };
          const player = new AudioWorkletNode(context, "pcm-player", options);
          player.connect(context.destination);
          const events = [];
          player.port.onmessage = ({ data }) => events.push(data.type);
          const settled = () => new Promise((done) => setTimeout(done, 100));
          const at = (seconds, act) =>
            context.suspend(seconds).then(async () => {
              act();
              await settled();
              context.resume();
            });
          const push = (seconds) => {
            const samples = new Float32Array(24000 * seconds).fill(0.5);
            player.port.postMessage({ type: "push", samples });
          };
          player.port.postMessage({ type: "begin", id: "u" });
          push(0.119);
          at(0.256, () => push(0.5));
          at(0.512, () => player.port.postMessage({ type: "clear", id: "u" }));
          await settled();
          const heard = (await context.startRendering()).getChannelData(0);
          await settled();
          const clear = 24000 * 0.512;
          const ramp = Array.from(heard.slice(clear, clear + 121));
          return {
            first: heard.findIndex((sample) => sample !== 0) / 24000,
            falls: ramp.every((sample, i) => i === 0 || sample < ramp[i - 1] || sample === 0),
            step: Math.max(...ramp.slice(1).map((sample, i) => Math.abs(sample - ramp[i]))),
            silent: heard.slice(clear + 120).every((sample) => sample === 0),
            events: [...new Set(events)],
          };
        }"""
    )
    assert told["first"] == pytest.approx(0.256, abs=0.01)
    assert told["falls"]
    assert told["step"] < 0.01
    assert told["silent"]
    assert "silent" in told["events"]
