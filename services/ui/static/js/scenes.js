// The drawer "behind the scenes": which instances answer this tab, and how far a part is that moves. Loaded when it is
// first opened. It imports nothing, because the other modules are in one script; it gets what it uses.

const PARTS_INTERVAL_MS = 3_000;
const COPIED_MS = 1_500;

/** What a stage means, for a part that moves. */
const STAGES = {
  following: "the service copies the data",
  verified: "both sides have the same data",
  shadowing: "reads are repeated at the service, and the answers are compared",
  shifting: "some users read at the service",
  cutting_over: "the service becomes the owner",
  cut_over: "the service is the owner, and the monolith follows",
  rolling_back: "the monolith becomes the owner again",
};

/** Returns a function that opens or closes the drawer. */
export function makeDrawer({ api, clockTime, element, on, session, state, opener }) {
  const socket = element("p", {});
  const parts = element("ul", {});
  const calls = element("ol", { className: "scenes-calls" });
  const close = element("button", { type: "button", className: "small", onclick: toggle }, "Close");
  const drawer = element("aside", { className: "scenes", hidden: true, onkeydown, "aria-labelledby": "scenes-heading" },
    element("header", {}, element("h2", { id: "scenes-heading" }, "Behind the scenes"), close),
    element("h3", {}, "Websocket"), socket, element("h3", {}, "Parts"), parts,
    element("h3", {}, "The last calls of this tab"), calls);
  document.body.append(drawer);
  setInterval(() => drawer.hidden || document.hidden || showParts(), PARTS_INTERVAL_MS);
  api.onCall(() => drawer.hidden || showCalls());
  on(["connection"], showSocket);

  function toggle() {
    drawer.hidden = !drawer.hidden;
    if (drawer.hidden) return opener.focus();
    showSocket();
    showParts();
    showCalls();
    close.focus();
  }

  function onkeydown({ key }) {
    if (key === "Escape") toggle();
  }

  function showSocket() {
    const { phase, instance } = state.connection;
    socket.textContent = phase === "online" ? `Connected to ${instance ?? "an unknown instance"}` : "Not connected";
  }

  async function showParts() {
    if (!session.token) return;
    try {
      parts.replaceChildren(...(await api.listParts(session.token)).map(partItem));
    } catch (problem) {
      parts.replaceChildren(element("li", {}, problem.message));
    }
  }

  function partItem({ name, owner, stage }) {
    const meaning = STAGES[stage];
    const text = `${owner ?? "no owner"}${meaning ? `, moves: ${meaning}` : ""}`;
    return element("li", { className: meaning ? "is-moving" : "" }, element("strong", {}, name), `: ${text}`);
  }

  function showCalls() {
    calls.replaceChildren(...api.calls.map(callItem));
  }

  function callItem({ at, method, path, status, ms, service, instance, version, correlationId }) {
    const side = service === "monolith" ? "monolith" : "service";
    const answered = instance ? `${instance}, ${side}, version ${version ?? "unknown"}` : "balancer";
    const copy = element("button", { type: "button", className: "link-button" }, "Copy");
    copy.onclick = async () => {
      await navigator.clipboard.writeText(correlationId);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, COPIED_MS);
    };
    copy.setAttribute("aria-label", `Copy the correlation id ${correlationId}`);
    return element("li", {},
      element("p", { className: "scenes-call" }, element("code", {}, `${method} ${path}`),
        element("span", { className: status >= 400 || status === 0 ? "is-problem" : "" },
          `${status || "no answer"}, ${Math.round(ms)} ms`)),
      element("p", {}, `${clockTime(at / 1000)}${status ? `, answered by ${answered}` : ""}`),
      correlationId && element("p", {}, element("code", {}, correlationId), " ", copy));
  }

  return toggle;
}
