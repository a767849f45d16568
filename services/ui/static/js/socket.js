// The live connection: says hello, hands frames on, and comes back by itself with the place where it left off.

// The server closes a connection that is silent for so long; we wait no longer for its welcome.
const WELCOME_WAIT_MS = 10_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 15_000;
// "Service restart": others are there already, so there is no reason to wait long, only not to come all at once.
const CLOSED_FOR_UPGRADE = 1012;

export class Connection {
  #socket = null;
  #cursor = null;
  #failures = 0;
  #timer = null;
  #wanted = false;
  #handlers;

  /** `token` answers the token of now or null; `frame` and `phase` are told what happens. */
  constructor({ token, frame, phase }) {
    this.#handlers = { token, frame, phase };
    // The two moments when waiting longer makes no sense.
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
  }

  get isOpen() {
    return this.#socket?.welcomed === true && this.#socket.readyState === WebSocket.OPEN;
  }

  start() {
    this.#wanted = true;
    this.#failures = 0;
    this.#open();
  }

  /** Forgets the place in the stream as well: whoever comes next may be somebody else. */
  stop() {
    this.#wanted = false;
    this.#cursor = null;
    this.#drop();
    this.#handlers.phase({ phase: "stopped" });
  }

  /** Comes back at once with the same place: after signing in again, or when the connection seems dead. */
  restart() {
    if (this.#wanted) this.#open();
  }

  retryNow() {
    if (this.#wanted && this.#socket === null) this.#open();
  }

  /** Whether the frame was handed to the network; not whether it arrived. */
  send(frame) {
    if (!this.isOpen) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #open() {
    this.#drop();
    this.#handlers.phase({ phase: "connecting" });
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.#socket = socket;
    this.#timer = setTimeout(() => socket.close(), WELCOME_WAIT_MS);

    // Each handler looks whether it still speaks for the current socket: a dropped one ends late.
    const current = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = current(() => {
      const hello = { type: "hello" };
      const token = this.#handlers.token();
      if (token) hello.token = token;
      if (this.#cursor) hello.cursor = this.#cursor;
      socket.send(JSON.stringify(hello));
    });
    socket.onmessage = current(({ data }) => this.#receive(socket, JSON.parse(data)));
    socket.onclose = current(({ code }) => this.#closed(code));
  }

  #receive(socket, frame) {
    if (frame.type === "welcome") {
      clearTimeout(this.#timer);
      socket.welcomed = true;
      this.#failures = 0;
      this.#handlers.phase({ phase: "online" });
    }
    this.#handlers.frame(frame);
    // Only now: a frame that could not be handled would otherwise count as seen.
    if (frame.cursor) this.#cursor = frame.cursor;
  }

  #closed(code) {
    this.#drop();
    const most = code === CLOSED_FOR_UPGRADE ? BACKOFF_FIRST_MS : Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    // Anywhere up to `most`, so that a thousand clients of a server that went away do not come back as one.
    const waitMs = most * (0.2 + 0.8 * Math.random());
    this.#timer = setTimeout(() => this.#open(), waitMs);
    this.#handlers.phase({ phase: "waiting", retryAt: Date.now() + waitMs });
  }
}
