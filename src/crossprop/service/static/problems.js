// What is shown where the service gives no answer: what happened, what to do, and a way to try again.

import { el, icon, show } from "./dom.js";

const TITLES = {
  offline: "The service cannot be reached",
  key: "An API key is needed",
  forbidden: "This key does not allow this",
  busy: "The service is busy",
  refused: "The service refused the request",
  failed: "Something went wrong in the service",
};
const LONGEST_COUNTDOWN = 120;

/** Connect the box for problems. */
export function problemBox(node) {
  let timer = null;
  let kind = null;

  function clear() {
    kind = null;
    clearInterval(timer);
    node.hidden = true;
    show(node);
  }

  function retryButton(seconds, retry) {
    const button = el("button", { type: "button", "aria-live": "off", onclick: () => { clear(); retry(); } }, "Try again");
    let left = Math.min(seconds ?? 0, LONGEST_COUNTDOWN);
    if (left <= 0) return button;
    const tick = () => {
      button.disabled = left > 0;
      button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
      if (left-- <= 0) clearInterval(timer);
    };
    tick();
    timer = setInterval(tick, 1000);
    return button;
  }

  return {
    clear,
    /** Which kind of problem is shown; null without any. */
    kind: () => kind,
    /** Show an error; `retry` is called on a click. */
    show(error, retry) {
      clear();
      kind = error.kind ?? "page";
      const title = TITLES[error.kind] ?? "An error on this page";
      const hint = error.kind === "busy" ? " What you entered stays here; try again in a moment." : "";
      show(
        node,
        icon(error.kind === "key" ? "key" : "error"),
        el("div", {}, el("strong", {}, title), el("p", {}, `${error.message}${hint}`)),
        retry ? retryButton(error.retryAfter, retry) : null,
      );
      node.hidden = false;
    },
  };
}
