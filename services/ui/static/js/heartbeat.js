// A worker that only counts time. Browsers slow the timers of hidden windows down to one a minute, which is as
// long as the server waits before it calls somebody offline; timers of workers keep their pace.
const PING_EVERY_MS = 20_000;

setInterval(() => postMessage("tick"), PING_EVERY_MS);
