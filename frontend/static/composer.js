// The text box: what is written in it, whole or as it is typed, to what is to be spoken. Knows neither wire nor sound.
//
// Event: changed, when the text or how it is given has changed.

import { $, say } from "./display.js";
import { finishedWords } from "./live.js";

const LIVE_HINT = "Each word is sent when you finish it. Enter says what is there at once; Finish ends the utterance.";

export class Composer extends EventTarget {
  constructor(speech) {
    super();
    this.speech = speech;
    this.draft = ""; // what was written before live typing
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.isLive) this.finish();
      else this.speakWhole();
    });
    $("text").addEventListener("input", (event) => this.typed(event));
    $("text").addEventListener("compositionend", (event) => this.typed(event));
    $("text").addEventListener("keydown", (event) => this.pressed(event));
    for (const choice of document.querySelectorAll("[name=manner]")) {
      choice.addEventListener("change", () => this.changeManner());
    }
  }

  get isLive() {
    return document.querySelector("[name=manner]:checked").value === "live";
  }

  // Shows how much is written, and what the button does with it.
  refresh() {
    const { value, maxLength } = $("text");
    $("hint").textContent = this.isLive ? LIVE_HINT : `${[...value].length} of ${maxLength} characters`;
    $("speak").textContent = this.isLive ? "Finish" : "Speak";
    $("speak").disabled = this.isLive && !value && !this.speech.isOpen;
  }

  pressed(event) {
    if (event.key !== "Enter" || event.isComposing) return;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      $("composer").requestSubmit();
    } else if (this.isLive && !event.shiftKey) {
      event.preventDefault();
      this.speech.speakLive(this.takeAll(), { flush: true });
    }
  }

  changeManner() {
    if (this.speech.isLive) this.finish();
    const live = this.isLive;
    if (live) this.draft = $("text").value;
    $("text").value = live ? "" : this.draft;
    $("text").placeholder = live ? "Start typing…" : "What should be said?";
    this.changed();
  }

  speakWhole() {
    const text = $("text").value.normalize("NFC").trim();
    if (text) {
      this.speech.speakWhole(text);
    } else {
      say("There is nothing to say yet.");
      $("text").focus();
    }
  }

  finish() {
    this.speech.speakLive(this.takeAll(), { end: true });
  }

  typed(event) {
    this.changed();
    if (!this.isLive || event.isComposing) return;
    const [words, rest] = finishedWords($("text").value);
    if (!words.trim()) return;
    $("text").value = rest;
    this.speech.speakLive(words.normalize("NFC"));
  }

  takeAll() {
    const text = $("text").value.normalize("NFC");
    $("text").value = "";
    return text && !/\s$/u.test(text) ? `${text} ` : text;
  }

  changed() {
    this.dispatchEvent(new Event("changed"));
  }
}
