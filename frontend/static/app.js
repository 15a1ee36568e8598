// The page itself: controls to messages, messages to sound, picture and words. The one module that knows them all.

import { listVoices, wishes } from "./choices.js";
import { Connection } from "./connection.js";
import { finishedWords } from "./live.js";
import { Peaks, Player, SAMPLE_RATE, wavFile } from "./sound.js";
import { Transcript } from "./transcript.js";
import { Utterance } from "./utterance.js";
import { Waveform } from "./waveform.js";

const $ = (id) => document.getElementById(id);
const LIVE_HINT = "Each word is sent when you finish it. Enter says what is there at once; Finish ends the utterance.";
const ENDINGS = {
  complete: "Finished.",
  cancelled: "Cancelled.",
  preempted: "Replaced by the next text.",
  max_length: "Stopped at the longest an utterance may be.",
  timeout: "Ended, since no more text came.",
  draining: "Ended, since the server is shutting down.",
};

const connection = new Connection();
const player = new Player();
const peaks = new Peaks();
const waveform = new Waveform($("waveform"), peaks);
const transcript = new Transcript($("transcript"));
let current = null; // the utterance that is made or heard
let draft = ""; // what was written before live typing
let unsent = []; // messages that wait for a connection
let heard = { played: 0, at: 0, sounding: false };

// --- what the user does

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (manner() === "live") finishLive();
  else speakWhole();
});
$("cancel").addEventListener("click", cancel);
$("stop").addEventListener("click", stop);
$("download").addEventListener("click", download);
$("text").addEventListener("input", typed);
$("text").addEventListener("compositionend", typed);
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    $("composer").requestSubmit();
  } else if (manner() === "live" && !event.shiftKey) {
    event.preventDefault();
    flushLive();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("lock").open && isBusy()) cancel();
});
for (const choice of document.querySelectorAll("[name=manner]")) choice.addEventListener("change", changeManner);
$("lock-form").addEventListener("submit", () => {
  connection.useKey($("key").value.trim());
  $("key").value = "";
});

function manner() {
  return document.querySelector("[name=manner]:checked").value;
}

function changeManner() {
  if (current?.live && !current.isOver) finishLive();
  const live = manner() === "live";
  if (live) draft = $("text").value;
  $("text").value = live ? "" : draft;
  $("text").placeholder = live ? "Start typing…" : "What should be said?";
  refresh();
}

async function speakWhole() {
  const text = $("text").value.normalize("NFC").trim();
  if (!text) {
    say("There is nothing to say yet.");
    $("text").focus();
    return;
  }
  await wake();
  begin({ live: false }, text);
}

async function wake() {
  try {
    await player.wake();
  } catch (failure) {
    notify(`This browser plays no sound here: ${failure.message}`);
  }
}

// Words of a live utterance; the first ones open it.
async function speakLive(text, { end = false, flush = false } = {}) {
  const open = current?.live && !current.isOver && !current.textEnded;
  if (!open && !text.trim()) return;
  const waking = wake();
  if (!open) begin({ live: true }, text);
  else if (text) {
    transcript.append(text);
    send({ type: "text", request_id: current.id, text });
  }
  if (flush && !end) send({ type: "flush", request_id: current.id });
  if (end) {
    current.textEnded = true;
    send({ type: "end", request_id: current.id });
  }
  refresh();
  await waking;
}

function typed(event) {
  refresh();
  if (manner() !== "live" || event.isComposing) return;
  const [words, rest] = finishedWords($("text").value);
  if (!words.trim()) return;
  $("text").value = rest;
  speakLive(words.normalize("NFC"));
}

function takeAll() {
  const text = $("text").value.normalize("NFC");
  $("text").value = "";
  return text && !/\s$/u.test(text) ? `${text} ` : text;
}

function flushLive() {
  speakLive(takeAll(), { flush: true });
}

function finishLive() {
  speakLive(takeAll(), { end: true });
}

function begin(kind, text) {
  player.clear(current?.id);
  current = new Utterance(kind);
  peaks.clear();
  waveform.clear();
  transcript.clear();
  transcript.append(text);
  heard = { played: 0, at: 0, sounding: false };
  for (const name of ["first-audio", "cancel-silence", "buffered", "underruns", "length", "real-time-factor"]) figure(name, "–");
  $("underruns-name").textContent = kind.live ? "Waits for words" : "Underruns";
  send({ type: "speak", request_id: current.id, text, final: !kind.live, ...wishes() });
  say(connection.isReady ? "Waiting for the first sound…" : "Waiting for the connection…");
  refresh();
}

function cancel() {
  if (!isBusy()) return;
  if (!current.isOver) send({ type: "cancel", request_id: current.id, played_ms: milliseconds(heard.played) });
  current.cancelledAt = performance.now();
  unsent = [];
  player.clear(current.id);
  say("Cancelled.");
  if (document.activeElement === $("cancel")) $("speak").focus(); // a button that is off keeps no focus
  refresh();
}

function stop() {
  cancel();
  send({ type: "stop" });
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(wavFile(current.chunks));
  link.download = "speech.wav";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function send(message) {
  if (connection.isReady) connection.send(message);
  else {
    unsent.push(message);
    connection.connect();
  }
}

// --- what the server says

connection.addEventListener("state", ({ detail }) => {
  $("connection").dataset.state = detail.name;
  $("connection").textContent = detail.text;
  if (detail.name === "ready") welcome(detail.ready);
  else breakOff(detail);
  if (detail.name === "locked") {
    $("lock-reason").textContent = detail.text;
    if (!$("lock").open) $("lock").showModal();
  }
  refresh();
});

connection.addEventListener("audio", ({ detail: { pcm } }) => {
  if (!current?.started || current.isOver) return;
  current.take(pcm);
  if (current.chunks.length === 1) figure("first-audio", `${Math.round(current.firstAudioMs)} ms`);
  player.push(pcm);
  peaks.push(pcm);
  figure("length", `${peaks.seconds.toFixed(1)} s`);
  waveform.changed();
  refresh();
});

connection.addEventListener("message", ({ detail: message }) => {
  if (message.type === "draining") say("The server is shutting down.");
  else if (message.type === "warning") notify(message.message);
  else if (message.type === "error" && !message.request_id) say(message.message, "bad");
  else if (message.request_id === current?.id) progress(message);
});

function progress(message) {
  if (message.type === "queued") say(`Waiting, number ${message.position} in line…`);
  else if (message.type === "audio_start" && !current.isOver) {
    current.started = true;
    player.begin(current.id);
    say("Speaking…");
  } else if (message.type === "mark" && message.kind === "segment") {
    transcript.mark(message);
    waveform.segments.push(message.sample_start);
  } else if (message.type === "error") {
    current.failure = message.message;
    if (!message.accepted) over({ reason: "failed" });
  } else if (message.type === "audio_end") over(message);
}

function over(message) {
  current.ended = message;
  if (current.cancelledAt === null) player.end();
  if (message.duration_ms > 0) figure("real-time-factor", (message.generation_ms / message.duration_ms).toFixed(2));
  if (message.reason === "failed") say(current.failure ?? "The server failed while it spoke.", "bad");
  else if (!current.started || !player.isOpen) say(ENDINGS[message.reason] ?? "Ended.");
  const seconds = peaks.seconds.toFixed(1);
  $("waveform").setAttribute("aria-label", peaks.samples ? `Waveform of ${seconds} s of speech` : "Waveform: empty");
  refresh();
}

function welcome(ready) {
  $("connection").textContent = `Connected to ${ready.model}`;
  $("lock").close();
  const demo = /untrained demo/.test(ready.model);
  notify(demo ? "This server runs an untrained demo: its weights are random, and what you hear is noise." : "");
  listVoices(ready.voice, connection.authorization);
  $("text").maxLength = ready.limits?.max_text_chars ?? $("text").maxLength;
  for (const message of unsent.splice(0)) connection.send(message);
}

// What was being spoken ends with its socket; what already came is still played.
function breakOff({ name }) {
  if (name === "locked") unsent = [];
  if (!current || current.isOver || unsent.some((message) => message.request_id === current.id)) return;
  current.failure = "Broken off: the connection was lost.";
  over({ reason: "failed" });
}

// --- what is heard

function hear(type, react) {
  player.addEventListener(type, ({ detail }) => {
    if (detail.id === current?.id) react(detail); // an utterance that was replaced may still be heard of
  });
}

hear("started", () => {
  heard.sounding = true;
  heard.at = performance.now();
  follow();
  refresh();
});

hear("position", ({ played, buffered, underruns }) => {
  heard = { ...heard, played, at: performance.now() };
  figure("buffered", `${milliseconds(buffered)} ms`);
  figure("underruns", underruns);
  transcript.follow(heard.played);
});

hear("drained", () => {
  if (current?.ended && current.ended.reason !== "failed") say(ENDINGS[current.ended.reason] ?? "Ended.");
  fallSilent();
});

hear("silent", () => {
  const since = current?.cancelledAt;
  if (since) {
    const ms = performance.now() - since + player.outputLatency * 1000;
    figure("cancel-silence", heard.sounding ? `${Math.round(ms)} ms` : "silent already");
  }
  fallSilent();
});

function fallSilent() {
  heard.sounding = false;
  transcript.rest();
  waveform.played = heard.played;
  waveform.changed();
  refresh();
}

// Between two reports of the player the line moves on by the clock.
function follow() {
  if (!heard.sounding) return;
  const since = ((performance.now() - heard.at) / 1000) * SAMPLE_RATE;
  waveform.played = Math.min(peaks.samples, heard.played + Math.min(since, SAMPLE_RATE / 5));
  waveform.changed();
  requestAnimationFrame(follow);
}

// --- what is shown

function isBusy() {
  return current !== null && current.cancelledAt === null && (current.ended === null || heard.sounding);
}

function refresh() {
  const live = manner() === "live";
  const { value, maxLength } = $("text");
  $("hint").textContent = live ? LIVE_HINT : `${[...value].length} of ${maxLength} characters`;
  $("speak").textContent = live ? "Finish" : "Speak";
  $("speak").disabled = live && !$("text").value && !(current?.live && !current.isOver && !current.textEnded);
  $("cancel").disabled = !isBusy();
  $("stop").disabled = !connection.isReady;
  $("download").disabled = !current?.chunks.length;
}

function say(text, tone = "") {
  $("status").textContent = text;
  $("status").dataset.tone = tone;
}

function notify(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function figure(name, value) {
  $(name).textContent = value;
}

function milliseconds(samples) {
  return Math.round((samples / SAMPLE_RATE) * 1000);
}

refresh();
connection.connect();
