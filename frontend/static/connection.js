// The way to the server: a token for each socket, one WebSocket of protocol v2, and how it comes back when it breaks.
//
// Events: state {name, text, ...} with name one of connecting, ready, waiting, locked, closed;
//         message {…the server's JSON}; audio {pcm: Int16Array}.
// It knows neither sound nor the page.

const PROTOCOL = "speak.v2";
const FIRST_DELAY_MS = 500;
const LAST_DELAY_MS = 8000;
const OPEN_PATIENCE_MS = 10000;
const STOPPED = 1000;
const IDLE = 4408;

export class Connection extends EventTarget {
  constructor() {
    super();
    this.key = "";
    this.failures = 0;
    this.socket = null;
    this.ready = null;
    window.addEventListener("online", () => this.hurry());
  }

  get authorization() {
    return this.key ? { Authorization: `Bearer ${this.key}` } : {};
  }

  get isReady() {
    return this.ready !== null;
  }

  // Connects unless that is done or under way.
  connect() {
    if (this.socket || this.opening) return;
    clearTimeout(this.retry);
    this.retry = null;
    this.opening = this.open().finally(() => (this.opening = null));
  }

  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  useKey(key) {
    this.key = key;
    this.failures = 0;
    this.connect();
  }

  async open() {
    this.state("connecting", this.failures ? "Connecting again…" : "Connecting…");
    const token = await this.token();
    if (token === null) return;
    const url = new URL("api/v1/speak", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, token ? [PROTOCOL, `bearer.${token}`] : [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    const late = setTimeout(() => socket.close(), OPEN_PATIENCE_MS);
    socket.onmessage = ({ data }) => this.receive(data, late);
    socket.onclose = (event) => {
      clearTimeout(late);
      this.lost(event);
    };
  }

  // A token for one socket; "" when the server gives none, null when there is nothing to connect to.
  async token() {
    let answer;
    try {
      const signal = AbortSignal.timeout(OPEN_PATIENCE_MS);
      answer = await fetch("v1/tokens", { method: "POST", headers: this.authorization, cache: "no-store", signal });
    } catch {
      this.again("The server does not answer.");
      return null;
    }
    if (answer.ok) return (await answer.json()).token;
    if (answer.status === 404) return "";
    if (answer.status === 401 || answer.status === 403) {
      const wrong = this.key ? "The server does not take this key." : "This server asks for a key.";
      this.state("locked", answer.status === 401 ? wrong : "This server refuses this page or this key.");
      return null;
    }
    this.again(answer.status === 429 ? "Too many connections." : "The server is not ready.");
    return null;
  }

  receive(data, late) {
    if (typeof data !== "string") {
      this.emit("audio", { pcm: new Int16Array(data) });
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "ready") {
      clearTimeout(late);
      this.failures = 0;
      this.ready = message;
      this.state("ready", "Connected", { ready: message });
    }
    this.emit("message", message);
  }

  lost({ code, reason }) {
    this.socket = null;
    this.ready = null;
    if (code === STOPPED) this.state("closed", "Stopped. Speak connects again.");
    else if (code === IDLE) this.state("closed", "Closed while idle. Speak connects again.");
    else if (code === 1006) this.again("The connection broke.");
    else this.again(reason ? `Closed: ${reason}.` : "The connection was closed.");
  }

  // Waits longer each time, and never in step with the other pages that lost the same server.
  again(cause) {
    const delay = Math.min(LAST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.failures) * (0.75 + Math.random() / 2);
    this.failures += 1;
    const seconds = Math.max(1, Math.round(delay / 1000));
    this.state("waiting", `${cause} Reconnecting in ${seconds} s (attempt ${this.failures}).`);
    this.retry = setTimeout(() => this.connect(), delay);
  }

  hurry() {
    if (this.retry) this.connect();
  }

  state(name, text, more = {}) {
    this.emit("state", { name, text, ...more });
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
