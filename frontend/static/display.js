// What the page says in words and figures. Knows where they stand, not what they mean.

import { SAMPLE_RATE } from "./sound.js";

export const $ = (id) => document.getElementById(id);

// tone: "bad" for what has failed.
export function say(text, tone = "") {
  $("status").textContent = text;
  $("status").dataset.tone = tone;
}

export function notify(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

export function figure(name, value) {
  $(name).textContent = value;
}

export function milliseconds(samples) {
  return Math.round((samples / SAMPLE_RATE) * 1000);
}
