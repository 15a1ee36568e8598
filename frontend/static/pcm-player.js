// The sound card's side of the page: a ring buffer of mono samples, played from the audio thread.
//
// Told:    {type: "begin", id} a new utterance · {type: "push", samples: Float32Array} · {type: "end"} no more comes
//          {type: "clear", id} silence now
// Tells:   {type: "position", id, played, buffered, underruns} every 100 ms and at each change of state
//          {type: "started", id} · {type: "silent", id} after a clear · {type: "drained", id} when all pushed is played
// All numbers are samples at the context's rate. It knows nothing of sockets or of the page.

const PREFILL_S = 0.12;
const RAMP_S = 0.005;
const REPORT_S = 0.1;
const FIRST_CAPACITY_S = 8;

class Ring {
  constructor(capacity) {
    this.samples = new Float32Array(capacity);
    this.start = 0;
    this.length = 0;
  }

  push(added) {
    if (this.length + added.length > this.samples.length) this.grow(this.length + added.length);
    const capacity = this.samples.length;
    const at = (this.start + this.length) % capacity;
    const fits = Math.min(added.length, capacity - at);
    this.samples.set(added.subarray(0, fits), at);
    this.samples.set(added.subarray(fits), 0);
    this.length += added.length;
  }

  // Fills as much of `out` as there is, and says how much that was.
  take(out) {
    const count = Math.min(out.length, this.length);
    const capacity = this.samples.length;
    const fits = Math.min(count, capacity - this.start);
    out.set(this.samples.subarray(this.start, this.start + fits), 0);
    out.set(this.samples.subarray(0, count - fits), fits);
    this.start = (this.start + count) % capacity;
    this.length -= count;
    return count;
  }

  clear() {
    this.start = 0;
    this.length = 0;
  }

  // By doubling, so that a long utterance that arrives faster than it is heard moves each sample a few times at most.
  grow(needed) {
    let capacity = this.samples.length;
    while (capacity < needed) capacity *= 2;
    const larger = new Float32Array(capacity);
    const length = this.length;
    this.take(larger.subarray(0, length));
    this.samples = larger;
    this.start = 0;
    this.length = length;
  }
}

class PcmPlayer extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Ring(Math.ceil(FIRST_CAPACITY_S * sampleRate));
    this.prefill = Math.round(PREFILL_S * sampleRate);
    this.ramp = Math.round(RAMP_S * sampleRate);
    this.reset("");
    this.state = "idle";
    this.port.onmessage = ({ data }) => this.receive(data);
  }

  reset(id) {
    this.id = id;
    this.ring.clear();
    this.played = 0;
    this.underruns = 0;
    this.ended = false;
    this.fading = 0;
    this.sinceReport = 0;
    this.last = 0;
  }

  receive(message) {
    if (message.type === "begin") {
      this.reset(message.id);
      this.state = "filling";
    } else if (message.type === "push" && this.fading === 0 && this.state !== "idle") {
      this.ring.push(message.samples);
    } else if (message.type === "end") {
      this.ended = true;
    } else if (message.type === "clear") {
      this.id = message.id;
      if (this.state === "playing") this.fading = this.ramp;
      else this.fallSilent("silent");
    }
  }

  process(_inputs, outputs) {
    const out = outputs[0][0];
    if (this.state === "filling") this.fill();
    if (this.state === "playing") this.play(out);
    else this.decay(out, 0);
    for (const channel of outputs[0].slice(1)) channel.set(out);
    return true;
  }

  fill() {
    if (this.ring.length >= this.prefill || (this.ended && this.ring.length > 0)) {
      this.state = "playing";
      this.port.postMessage({ type: "started", id: this.id });
    } else if (this.ended) {
      this.fallSilent("drained");
    }
  }

  play(out) {
    const count = this.ring.take(out);
    this.played += count;
    if (this.fading > 0) {
      this.fadeOut(out, count);
      return;
    }
    if (count > 0) this.last = out[count - 1];
    if (count < out.length) {
      this.decay(out, count);
      if (this.ended) {
        this.fallSilent("drained");
        return;
      }
      this.underruns += 1;
      this.state = "filling";
      this.report();
    }
    this.sinceReport += count;
    if (this.sinceReport >= REPORT_S * sampleRate) this.report();
  }

  // A cancelled voice ends within 5 ms, but not in a click.
  fadeOut(out, count) {
    for (let at = 0; at < out.length; at += 1) {
      out[at] = at < count && this.fading > 0 ? (out[at] * this.fading) / this.ramp : 0;
      this.fading = Math.max(0, this.fading - 1);
    }
    if (this.fading === 0 || count < out.length) this.fallSilent("silent");
  }

  // Nor does a voice that ran dry: its last value fades from `from` on.
  decay(out, from) {
    for (let at = from; at < out.length; at += 1) {
      this.last *= 1 - 4 / this.ramp;
      out[at] = this.last;
    }
  }

  fallSilent(type) {
    this.state = "idle";
    this.ring.clear();
    this.fading = 0;
    this.last = 0;
    this.report();
    this.port.postMessage({ type, id: this.id });
  }

  report() {
    this.sinceReport = 0;
    this.port.postMessage({
      type: "position",
      id: this.id,
      played: this.played,
      buffered: this.ring.length,
      underruns: this.underruns,
    });
  }
}

registerProcessor("pcm-player", PcmPlayer);
