// One utterance as it is heard: sound, picture and words, and how far the listener is in them. Knows no socket.
//
// Events: changed, when something began or ceased to be heard or came to be kept; drained, when all was heard.

import { $, figure, milliseconds } from "./display.js";
import { Peaks, Player, SAMPLE_RATE } from "./sound.js";
import { Transcript } from "./transcript.js";
import { Waveform } from "./waveform.js";

const FIGURES = ["first-audio", "cancel-silence", "buffered", "underruns", "length", "real-time-factor"];

export class Stage extends EventTarget {
  constructor() {
    super();
    this.player = new Player();
    this.peaks = new Peaks();
    this.waveform = new Waveform($("waveform"), this.peaks);
    this.transcript = new Transcript($("transcript"));
    this.utterance = null;
    this.heard = { played: 0, at: 0, sounding: false };
    this.hear("started", () => this.started());
    this.hear("position", (position) => this.moveOn(position));
    this.hear("drained", () => this.drained());
    this.hear("silent", () => this.fellSilent());
  }

  get isSounding() {
    return this.heard.sounding;
  }

  get canPlay() {
    return this.player.isOpen;
  }

  get playedMs() {
    return milliseconds(this.heard.played);
  }

  // To be called from a click or a key. Throws what keeps the browser from playing.
  async wake() {
    await this.player.wake();
  }

  // Another utterance takes the place of the one before.
  set(utterance, text) {
    this.player.clear(this.utterance?.id);
    this.utterance = utterance;
    this.peaks.clear();
    this.waveform.clear();
    this.transcript.clear();
    this.transcript.append(text);
    this.heard = { played: 0, at: 0, sounding: false };
    for (const name of FIGURES) figure(name, "–");
    $("underruns-name").textContent = utterance.live ? "Waits for words" : "Underruns";
  }

  append(text) {
    this.transcript.append(text);
  }

  begin() {
    this.player.begin(this.utterance.id);
  }

  take(pcm) {
    this.utterance.take(pcm);
    if (this.utterance.chunks.length === 1) figure("first-audio", `${Math.round(this.utterance.firstAudioMs)} ms`);
    this.player.push(pcm);
    this.peaks.push(pcm);
    figure("length", `${this.peaks.seconds.toFixed(1)} s`);
    this.waveform.changed();
    this.tell("changed");
  }

  mark(segment) {
    this.transcript.mark(segment);
    this.waveform.segments.push(segment.sample_start);
  }

  // No more will come; what is there is still played.
  end({ duration_ms: duration, generation_ms: generation }) {
    if (this.utterance.cancelledAt === null) this.player.end();
    if (duration > 0) figure("real-time-factor", (generation / duration).toFixed(2));
    const shown = this.peaks.samples ? ` of ${this.peaks.seconds.toFixed(1)} s of speech` : ": empty";
    $("waveform").setAttribute("aria-label", `Waveform${shown}`);
  }

  // Nothing more of it shall be heard.
  clear() {
    this.player.clear(this.utterance.id);
  }

  hear(type, react) {
    this.player.addEventListener(type, ({ detail }) => {
      if (detail.id === this.utterance?.id) react(detail); // one that was replaced may still be heard of
    });
  }

  started() {
    this.heard.sounding = true;
    this.heard.at = performance.now();
    this.follow();
    this.tell("changed");
  }

  moveOn({ played, buffered, underruns }) {
    this.heard = { ...this.heard, played, at: performance.now() };
    figure("buffered", `${milliseconds(buffered)} ms`);
    figure("underruns", underruns);
    this.transcript.follow(played);
  }

  drained() {
    this.tell("drained");
    this.rest();
  }

  fellSilent() {
    const since = this.utterance.cancelledAt;
    if (since) {
      const ms = performance.now() - since + this.player.outputLatency * 1000;
      figure("cancel-silence", this.heard.sounding ? `${Math.round(ms)} ms` : "silent already");
    }
    this.rest();
  }

  rest() {
    this.heard.sounding = false;
    this.transcript.rest();
    this.waveform.played = this.heard.played;
    this.waveform.changed();
    this.tell("changed");
  }

  // Between two reports of the player the line moves on by the clock.
  follow() {
    if (!this.heard.sounding) return;
    const since = ((performance.now() - this.heard.at) / 1000) * SAMPLE_RATE;
    this.waveform.played = Math.min(this.peaks.samples, this.heard.played + Math.min(since, SAMPLE_RATE / 5));
    this.waveform.changed();
    requestAnimationFrame(() => this.follow());
  }

  tell(type) {
    this.dispatchEvent(new Event(type));
  }
}
