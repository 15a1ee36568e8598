// The picture of one utterance: its peaks as bars, what was heard in the accent colour, segments as ticks.
// It is told what to draw and draws it once per screen frame at most.

import { SAMPLE_RATE } from "./sound.js";

const BAR = 2;
const GAP = 1;
const FIRST_WINDOW_S = 6;
const QUIETEST_SCALE = 0.3;

export class Waveform {
  constructor(canvas, peaks) {
    this.canvas = canvas;
    this.peaks = peaks;
    this.played = 0;
    this.segments = [];
    this.awaited = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.changed());
    this.resize();
  }

  clear() {
    this.played = 0;
    this.segments = [];
    this.changed();
  }

  changed() {
    if (this.awaited) return;
    this.awaited = true;
    requestAnimationFrame(() => {
      this.awaited = false;
      this.draw();
    });
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    this.changed();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.width / ratio;
    const height = this.canvas.height / ratio;
    const style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const across = Math.max(FIRST_WINDOW_S, this.peaks.seconds) * SAMPLE_RATE;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = colour("--line");
    pen.fillRect(0, height / 2 - 0.5, width, 1);
    for (const start of this.segments) pen.fillRect((start / across) * width, 0, 1, height);
    const heard = (this.played / across) * width;
    this.bars(pen, width, height, across, heard, colour("--accent"), colour("--wave"));
    if (this.played > 0) {
      pen.fillStyle = colour("--ink");
      pen.fillRect(Math.min(heard, width - 1.5), 0, 1.5, height);
    }
  }

  bars(pen, width, height, across, heard, accent, pale) {
    const perPixel = across / width / this.peaks.width;
    const scale = (height / 2 - 6) / Math.max(this.peaks.loudest, QUIETEST_SCALE);
    for (let x = 0; x < width; x += BAR + GAP) {
      const from = Math.floor(x * perPixel);
      if (from >= this.peaks.high.length) break;
      const to = Math.max(from + 1, Math.floor((x + BAR + GAP) * perPixel));
      let high = 0;
      let low = 0;
      for (let at = from; at < to && at < this.peaks.high.length; at += 1) {
        high = Math.max(high, this.peaks.high[at]);
        low = Math.min(low, this.peaks.low[at]);
      }
      pen.fillStyle = x < heard ? accent : pale;
      pen.fillRect(x, height / 2 - Math.max(1, high * scale), BAR, Math.max(2, (high - low) * scale));
    }
  }
}
