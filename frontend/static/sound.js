// Sound of one utterance: from the 16-bit PCM of the wire to the ears and into a WAV file. Knows no socket.

export const SAMPLE_RATE = 24000;
const WAV_HEADER_BYTES = 44;

export class Player extends EventTarget {
  // Events: position {id, played, buffered, underruns}, and started, silent, drained {id}.

  constructor() {
    super();
    this.untold = []; // what the sound card's side is to be told once it is there
  }

  // Must first be called from a click or a key, since browsers keep pages silent until then.
  async wake() {
    this.waking ??= this.open();
    await this.waking;
    if (this.context.state !== "running") await this.context.resume();
  }

  async open() {
    this.context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "interactive" });
    await this.context.audioWorklet.addModule("static/pcm-player.js");
    this.node = new AudioWorkletNode(this.context, "pcm-player", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent(data.type, { detail: data }));
    this.node.connect(this.context.destination);
    for (const message of this.untold.splice(0)) this.tell(message);
  }

  get isOpen() {
    return this.node !== undefined && this.context.state === "running";
  }

  // `id` names the utterance in the events about it.
  begin(id) {
    this.tell({ type: "begin", id });
  }

  push(pcm) {
    const samples = Float32Array.from(pcm, (value) => value / 32768);
    this.tell({ type: "push", samples });
  }

  end() {
    this.tell({ type: "end" });
  }

  clear(id) {
    this.tell({ type: "clear", id });
  }

  // How long the sound card holds what the worklet has already given it, in seconds.
  get outputLatency() {
    return this.context?.outputLatency ?? 0;
  }

  tell(message) {
    if (this.node) this.node.port.postMessage(message, message.samples ? [message.samples.buffer] : []);
    else this.untold.push(message);
  }
}

// Peaks of 10 ms each, so that drawing costs the same however long the utterance is.
export class Peaks {
  constructor() {
    this.width = SAMPLE_RATE / 100;
    this.clear();
  }

  clear() {
    this.low = [];
    this.high = [];
    this.samples = 0;
    this.loudest = 0;
  }

  push(pcm) {
    for (const value of pcm) {
      const at = Math.floor(this.samples / this.width);
      const level = value / 32768;
      if (at === this.low.length) {
        this.low.push(level);
        this.high.push(level);
      } else {
        if (level < this.low[at]) this.low[at] = level;
        if (level > this.high[at]) this.high[at] = level;
      }
      this.samples += 1;
      this.loudest = Math.max(this.loudest, Math.abs(level));
    }
  }

  get seconds() {
    return this.samples / SAMPLE_RATE;
  }
}

export function wavFile(chunks) {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  const header = new DataView(new ArrayBuffer(WAV_HEADER_BYTES));
  const text = (at, word) => [...word].forEach((char, i) => header.setUint8(at + i, char.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, WAV_HEADER_BYTES - 8 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, SAMPLE_RATE, true);
  header.setUint32(28, SAMPLE_RATE * 2, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header.buffer, ...chunks], { type: "audio/wav" });
}
