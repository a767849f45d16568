// A worker that sends ticks. Browsers slow the timers of hidden windows down to one a minute, which is as long as the
// server waits before it sets a user offline. Timers of workers keep their interval.
const PING_INTERVAL_MS = 20_000;

setInterval(() => postMessage("tick"), PING_INTERVAL_MS);
