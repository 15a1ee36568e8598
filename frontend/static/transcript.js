// The text of one utterance, with the segment that is heard now marked. Knows the marks of the protocol, not sound.

export class Transcript {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  clear() {
    this.points = []; // code points, which the protocol counts in
    this.segments = [];
    this.current = -1;
    this.resting = false;
    this.render();
  }

  append(text) {
    this.points.push(...text);
    this.render();
  }

  // Where a segment of live text ends may not be known yet: then where the next one begins.
  mark({ char_start: from, char_end: to, sample_start: sample }) {
    const before = this.segments.at(-1);
    if (before && before.to === null) before.to = from;
    this.segments.push({ from, to: to ?? null, sample });
    this.render();
  }

  // `played` in samples.
  follow(played) {
    const current = this.segments.findLastIndex(({ sample }) => sample <= played);
    if (current === this.current) return;
    this.current = current;
    this.render();
  }

  // Nothing is heard any more; what was heard stays told apart.
  rest() {
    this.resting = true;
    this.render();
  }

  render() {
    const pieces = [];
    let at = 0;
    this.segments.forEach((segment, index) => {
      const from = segment.from;
      const to = segment.to ?? this.points.length;
      if (from > at) pieces.push(this.piece("span", at, from, index <= this.current));
      const now = index === this.current && !this.resting;
      const piece = this.piece(now ? "mark" : "span", Math.max(at, from), to, index <= this.current);
      if (now) piece.setAttribute("aria-current", "true");
      pieces.push(piece);
      at = to;
    });
    pieces.push(this.piece("span", at, this.points.length, false));
    this.element.replaceChildren(...pieces.filter((piece) => piece.textContent));
    this.show(this.element.querySelector("mark"));
  }

  // Scrolls within the transcript only; the page itself stays where the reader has it.
  show(marked) {
    if (!marked) return;
    const box = this.element.getBoundingClientRect();
    const place = marked.getBoundingClientRect();
    if (place.top < box.top || place.height > box.height) this.element.scrollTop += place.top - box.top;
    else if (place.bottom > box.bottom) this.element.scrollTop += place.bottom - box.bottom;
  }

  piece(tag, from, to, said) {
    const piece = document.createElement(tag);
    piece.textContent = this.points.slice(from, to).join("");
    if (said) piece.className = "said";
    return piece;
  }
}
