// Wishes to messages, messages to the stage: which utterance is the current one, and how it ends. Knows no controls.
//
// Event: changed, when what may be done next has changed.

import { wishes } from "./choices.js";
import { notify, say } from "./display.js";
import { Utterance } from "./utterance.js";

const ENDINGS = {
  complete: "Finished.",
  cancelled: "Cancelled.",
  preempted: "Replaced by the next text.",
  max_length: "Stopped at the longest an utterance may be.",
  timeout: "Ended, since no more text came.",
  draining: "Ended, since the server is shutting down.",
};

export class Speech extends EventTarget {
  constructor(connection, stage) {
    super();
    this.connection = connection;
    this.stage = stage;
    this.current = null; // the utterance that is made or heard
    this.unsent = []; // messages that wait for a connection
    connection.addEventListener("audio", ({ detail: { pcm } }) => {
      if (this.current?.started && !this.current.isOver) stage.take(pcm);
    });
    connection.addEventListener("message", ({ detail }) => this.receive(detail));
    stage.addEventListener("changed", () => this.changed());
    stage.addEventListener("drained", () => {
      const ended = this.current?.ended;
      if (ended && ended.reason !== "failed") say(ENDINGS[ended.reason] ?? "Ended.");
    });
  }

  get isBusy() {
    const { current } = this;
    return current !== null && current.cancelledAt === null && (current.ended === null || this.stage.isSounding);
  }

  get isLive() {
    return Boolean(this.current?.live && !this.current.isOver);
  }

  // Whether a live utterance still takes words.
  get isOpen() {
    return this.isLive && !this.current.textEnded;
  }

  // All that came of the current utterance.
  get chunks() {
    return this.current?.chunks ?? [];
  }

  async speakWhole(text) {
    await this.wake();
    this.begin({ live: false }, text);
  }

  // Words of a live utterance; the first ones open it.
  async speakLive(text, { end = false, flush = false } = {}) {
    const open = this.isOpen;
    if (!open && !text.trim()) return;
    const waking = this.wake();
    if (!open) this.begin({ live: true }, text);
    else if (text) {
      this.stage.append(text);
      this.send({ type: "text", request_id: this.current.id, text });
    }
    if (flush && !end) this.send({ type: "flush", request_id: this.current.id });
    if (end) {
      this.current.textEnded = true;
      this.send({ type: "end", request_id: this.current.id });
    }
    this.changed();
    await waking;
  }

  cancel() {
    const { current } = this;
    if (!this.isBusy) return;
    if (!current.isOver) this.send({ type: "cancel", request_id: current.id, played_ms: this.stage.playedMs });
    current.cancelledAt = performance.now();
    this.unsent = [];
    this.stage.clear();
    say("Cancelled.");
    this.changed();
  }

  // Ends what is spoken, and the connection.
  stop() {
    this.cancel();
    this.send({ type: "stop" });
  }

  // The connection is there: what was said without one is sent.
  flush() {
    for (const message of this.unsent.splice(0)) this.connection.send(message);
  }

  // What was being spoken ends with its socket; what already came is still played. forGood: nobody will send the rest.
  breakOff(forGood) {
    const { current } = this;
    if (forGood) this.unsent = [];
    if (!current || current.isOver || this.unsent.some((message) => message.request_id === current.id)) return;
    current.failure = "Broken off: the connection was lost.";
    this.over({ reason: "failed" });
  }

  async wake() {
    try {
      await this.stage.wake();
    } catch (failure) {
      notify(`This browser plays no sound here: ${failure.message}`);
    }
  }

  begin(kind, text) {
    this.current = new Utterance(kind);
    this.stage.set(this.current, text);
    this.send({ type: "speak", request_id: this.current.id, text, final: !kind.live, ...wishes() });
    say(this.connection.isReady ? "Waiting for the first sound…" : "Waiting for the connection…");
    this.changed();
  }

  send(message) {
    if (this.connection.isReady) this.connection.send(message);
    else {
      this.unsent.push(message);
      this.connection.connect();
    }
  }

  receive(message) {
    if (message.type === "draining") say("The server is shutting down.");
    else if (message.type === "warning") notify(message.message);
    else if (message.type === "error" && !message.request_id) say(message.message, "bad");
    else if (message.request_id === this.current?.id) this.progress(message);
  }

  progress(message) {
    const { current, stage } = this;
    if (message.type === "queued") say(`Waiting, number ${message.position} in line…`);
    else if (message.type === "audio_start" && !current.isOver) {
      current.started = true;
      stage.begin();
      say("Speaking…");
    } else if (message.type === "mark" && message.kind === "segment") {
      stage.mark(message);
    } else if (message.type === "error") {
      current.failure = message.message;
      if (!message.accepted) this.over({ reason: "failed" });
    } else if (message.type === "audio_end") this.over(message);
  }

  over(message) {
    const { current, stage } = this;
    current.ended = message;
    stage.end(message);
    if (message.reason === "failed") say(current.failure ?? "The server failed while it spoke.", "bad");
    else if (!current.started || !stage.canPlay) say(ENDINGS[message.reason] ?? "Ended.");
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("changed"));
  }
}
