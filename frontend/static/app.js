// The page itself: its parts put together, its buttons, and the door. The one module that knows them all.

import { listVoices } from "./choices.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { $, notify } from "./display.js";
import { wavFile } from "./sound.js";
import { Speech } from "./speech.js";
import { Stage } from "./stage.js";

const connection = new Connection();
const speech = new Speech(connection, new Stage());
const composer = new Composer(speech);

speech.addEventListener("changed", refresh);
composer.addEventListener("changed", refresh);
$("cancel").addEventListener("click", () => giveUp(() => speech.cancel()));
$("stop").addEventListener("click", () => giveUp(() => speech.stop()));
$("download").addEventListener("click", download);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("lock").open) giveUp(() => speech.cancel());
});
$("lock-form").addEventListener("submit", () => {
  connection.useKey($("key").value.trim());
  $("key").value = "";
});

connection.addEventListener("state", ({ detail }) => {
  $("connection").dataset.state = detail.name;
  $("connection").textContent = detail.text;
  if (detail.name === "ready") welcome(detail.ready);
  else speech.breakOff(detail.name === "locked");
  if (detail.name === "locked") {
    $("lock-reason").textContent = detail.text;
    if (!$("lock").open) $("lock").showModal();
  }
  refresh();
});

function welcome(ready) {
  $("connection").textContent = `Connected to ${ready.model}`;
  $("lock").close();
  const demo = /untrained demo/.test(ready.model);
  notify(demo ? "This server runs an untrained demo: its weights are random, and what you hear is noise." : "");
  listVoices(ready.voice, connection.authorization);
  $("text").maxLength = ready.limits?.max_text_chars ?? $("text").maxLength;
  speech.flush();
}

function giveUp(how) {
  const focused = document.activeElement === $("cancel") && speech.isBusy;
  how();
  if (focused) $("speak").focus(); // a button that is off keeps no focus
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(wavFile(speech.chunks));
  link.download = "speech.wav";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function refresh() {
  composer.refresh();
  $("cancel").disabled = !speech.isBusy;
  $("stop").disabled = !connection.isReady;
  $("download").disabled = !speech.chunks.length;
}

refresh();
connection.connect();
