// One utterance from the click to its last sample: what was asked, what came, when. Told by the page, tells nothing.

export class Utterance {
  constructor({ live }) {
    this.id = `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    this.live = live;
    this.textEnded = !live;
    this.askedAt = performance.now();
    this.firstAudioMs = null;
    this.chunks = [];
    this.started = false; // the server has begun to send it
    this.ended = null; // the server's last message about it
    this.cancelledAt = null;
  }

  get isOver() {
    return this.ended !== null || this.cancelledAt !== null;
  }

  take(pcm) {
    this.firstAudioMs ??= performance.now() - this.askedAt;
    this.chunks.push(pcm);
  }
}
