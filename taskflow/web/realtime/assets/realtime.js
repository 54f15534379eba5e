// Subscriptions for browsers: messages of channels, and runs as they go on. Nothing is lost or doubled while the connection breaks.
//
//   import { subscribe, hooks } from "https://tasks.example/v1/realtime/realtime.js";
//
//   const subscription = subscribe({ token }, { onMessage: (message) => show(message.topic, message.data) });
//   for await (const message of subscribe({ token: fetchToken, since: "5m" })) { ... }
//
//   const { useTopic, useRun } = hooks(React);

const FINAL = new Set(["completed", "failed", "cancelled", "skipped"]);
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5000;

// Subscribe to what a token allows.
//
//   token            text, or a function that gives it or a promise of it: called anew for each connection, so that tokens may expire
//   channel, topics  without a token, on a server for development: what to read
//   since            a duration like "5m": what is kept of that time comes first; or
//   after            the id of the last message that you have
//   url              of the server's /v1/realtime; by default where this module came from
//
// `onMessage(message)` gets {kind, channel, topic, id, data, created_at, run_id, is_after_gap}. `onState(state, reason)` is told of
// "connecting", "open", "waiting" (for the next try) and "closed".
export function subscribe(options, { onMessage = () => {}, onState = () => {} } = {}) {
  let source = null, timer = null, closed = false, tries = 0;
  let last = options.after === undefined ? "" : String(options.after);
  const queue = [];
  let wake = null, iterated = false;

  async function connect() {
    onState("connecting");
    let token;
    try {
      token = typeof options.token === "function" ? await options.token() : options.token;
    } catch (error) {
      return again(`no token: ${error}`);
    }
    if (closed) return;
    source = new EventSource(address(options, token, last));
    source.onmessage = (event) => take(JSON.parse(event.data));
    source.onopen = () => onState("open");
    // Not left to EventSource: it goes on with the old token, and gives up for good when a proxy answers an error.
    source.onerror = () => again("the connection was lost");
  }

  function take(frame) {
    if (frame.kind === "closing") return again(frame.reason);
    tries = 0;
    if (frame.kind === "sub") {
      if (!last) last = frame.id;
      return;
    }
    if (frame.id !== undefined) {
      // A message may come once more when the connection broke while it was on its way.
      if (last && BigInt(frame.id) <= BigInt(last)) return;
      last = frame.id;
    }
    if (iterated) {
      queue.push(frame);
      wake?.();
    }
    onMessage(frame);
  }

  function again(reason) {
    source?.close();
    source = null;
    if (closed || timer !== null) return;
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** tries++) * (0.5 + Math.random() / 2);
    onState("waiting", reason);
    timer = setTimeout(() => {
      timer = null;
      connect();
    }, pause);
  }

  function close() {
    if (closed) return;
    closed = true;
    source?.close();
    clearTimeout(timer);
    wake?.();
    onState("closed");
  }

  connect();
  return {
    close,
    get lastId() {
      return last;
    },
    async *[Symbol.asyncIterator]() {
      iterated = true;
      try {
        while (true) {
          while (queue.length) yield queue.shift();
          if (closed) return;
          await new Promise((resolve) => (wake = resolve));
        }
      } finally {
        close();
      }
    },
  };
}

function address({ url, channel, topics, since }, token, last) {
  const found = new URL("sse", url === undefined ? import.meta.url : `${String(url).replace(/\/$/, "")}/`);
  const query = found.searchParams;
  if (token !== undefined) query.set("token", token);
  if (token === undefined && channel !== undefined) query.set("channel", channel);
  if (token === undefined && topics !== undefined) query.set("topics", topics.join(","));
  if (last) query.set("after", last);
  else if (since !== undefined) query.set("since", since);
  return found;
}

// Watch a run: `onRun(run, steps)` at once and after each change, `steps` by key; ends with the run.
export function watchRun(options, { onRun = () => {}, onState = () => {} } = {}) {
  const steps = {};
  const subscription = subscribe(
    { topics: ["$run", "$step"], ...options, ...(options.runId ? { channel: options.runId } : {}) },
    {
      onState,
      onMessage(frame) {
        if (frame.kind === "step") steps[frame.data.key] = frame.data;
        if (frame.kind !== "run") return;
        onRun(frame.data, { ...steps });
        if (FINAL.has(frame.data.status)) subscription.close();
      },
    },
  );
  return subscription;
}

// The hooks for React, or for whatever has its useState and useEffect.
export function hooks({ useState, useEffect }) {
  const keyOf = ({ token, ...rest }) => JSON.stringify([typeof token === "function" ? "" : token, rest]);

  // The messages of a subscription: {messages, latest, state}. `limit` (100) is how many are kept; null as options is none.
  function useTopic(options, { limit = 100 } = {}) {
    const [messages, setMessages] = useState([]);
    const [state, setState] = useState("closed");
    useEffect(() => {
      setMessages([]);
      if (options === null) return undefined;
      const subscription = subscribe(options, {
        onState: setState,
        onMessage: (message) => setMessages((before) => [...before, message].slice(-limit)),
      });
      return () => subscription.close();
    }, [options === null ? null : keyOf(options), limit]);
    return { messages, latest: messages[messages.length - 1], state };
  }

  // A run as it goes on: {run, steps, state}.
  function useRun(options) {
    const [view, setView] = useState({ run: null, steps: {} });
    const [state, setState] = useState("closed");
    useEffect(() => {
      setView({ run: null, steps: {} });
      if (options === null) return undefined;
      const subscription = watchRun(options, {
        onState: setState,
        onRun: (run, steps) => setView({ run, steps }),
      });
      return () => subscription.close();
    }, [options === null ? null : keyOf(options)]);
    return { ...view, state };
  }

  return { useTopic, useRun };
}
