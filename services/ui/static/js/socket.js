// The websocket connection. It sends the hello frame, delivers frames, and reconnects with the cursor of the last
// frame.

// The server closes a connection without a hello after this time. The client waits as long for the welcome frame.
const WELCOME_TIMEOUT_MS = 10_000;
// Version 2 has channels.
const PROTOCOL_VERSION = 2;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 15_000;
// "Service restart": the instance drains and others are ready, so only a short random pause is needed.
const CLOSE_SERVICE_RESTART = 1012;

export class Connection {
  #socket = null;
  #cursor = null;
  #failures = 0;
  #timer = null;
  #isStarted = false;
  #handlers;

  /** The token of the last hello frame; null: it had none. */
  token = null;

  /** `token` returns the current token or null. `frame` and `phase` receive frames and changes of the connection. */
  constructor({ token, frame, phase }) {
    this.#handlers = { token, frame, phase };
    // At these events a pause between attempts has no use.
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
  }

  get isOpen() {
    return this.#socket?.welcomed === true && this.#socket.readyState === WebSocket.OPEN;
  }

  start() {
    this.#isStarted = true;
    this.#failures = 0;
    this.#open();
  }

  /** Also discards the cursor, because the next user may be another one. */
  stop() {
    this.#isStarted = false;
    this.#cursor = null;
    this.#drop();
    this.#handlers.phase({ phase: "stopped" });
  }

  /** Reconnects at once and keeps the cursor: when the connection seems dead. */
  restart() {
    if (this.#isStarted) this.#open();
  }

  /**
   * Reconnects at once without the cursor: a connection whose token had expired did not receive what only members of a
   * channel receive.
   */
  restartWithoutCursor() {
    this.#cursor = null;
    this.restart();
  }

  retryNow() {
    if (this.#isStarted && this.#socket === null) this.#open();
  }

  /** Returns whether the frame was given to the network. It may still be lost. */
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
    this.#timer = setTimeout(() => socket.close(), WELCOME_TIMEOUT_MS);

    // Ignores late events of a dropped socket.
    const ifCurrent = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = ifCurrent(() => {
      const hello = { type: "hello", version: PROTOCOL_VERSION };
      this.token = this.#handlers.token();
      if (this.token) hello.token = this.token;
      if (this.#cursor) hello.cursor = this.#cursor;
      socket.send(JSON.stringify(hello));
    });
    socket.onmessage = ifCurrent(({ data }) => this.#receive(socket, JSON.parse(data)));
    socket.onclose = ifCurrent(({ code }) => this.#reconnectLater(code));
  }

  #receive(socket, frame) {
    if (frame.type === "welcome") {
      clearTimeout(this.#timer);
      socket.welcomed = true;
      this.#failures = 0;
      this.#handlers.phase({ phase: "online" });
    }
    this.#handlers.frame(frame);
    // After the handler, so that a frame whose handler fails is not skipped at the next reconnect.
    if (frame.cursor) this.#cursor = frame.cursor;
  }

  #reconnectLater(code) {
    this.#drop();
    const exponent = code === CLOSE_SERVICE_RESTART ? 0 : this.#failures;
    const backoffMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** exponent);
    this.#failures += 1;
    // With jitter, so that the clients of a failed server do not reconnect at the same moment.
    const pauseMs = backoffMs * (0.2 + 0.8 * Math.random());
    this.#timer = setTimeout(() => this.#open(), pauseMs);
    this.#handlers.phase({ phase: "waiting", retryAt: Date.now() + pauseMs });
  }
}
