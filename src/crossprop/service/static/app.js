// The page: asks the service which properties it has, then predicts what is typed.

import * as api from "./api.js";
import { composer } from "./composer.js";
import { download, toCsv } from "./csv.js";
import { showDetail } from "./detail.js";
import { el, icon, show } from "./dom.js";
import { examples, firstChoice } from "./examples.js";
import { count } from "./format.js";
import { problemBox } from "./problems.js";
import { propertyList, usable } from "./properties.js";
import { resultTable } from "./results.js";
import { decode, encode, LONGEST_LINK } from "./state.js";
import { summary } from "./summary.js";

const $ = (id) => document.getElementById(id);
const WIDE = matchMedia("(min-width: 64rem)");
const ROOMY = matchMedia("(min-width: 48rem)");
const POLL_LOADING = 2000;
const POLL_GONE = 5000;
const POLL_CALM = 60_000;

const problem = problemBox($("problem"));
const compositions = composer(
  { text: $("formulas"), summary: $("formulas-summary"), weight: $("weight"), grid: $("elements"), caption: $("element-caption"), builder: $("builder"), clear: $("formulas-clear") },
  tellPlan,
);
const properties = propertyList(
  { search: $("search"), list: $("properties"), summary: $("properties-summary"), clear: $("properties-clear"), only: $("only") },
  tellPlan,
);
let running = null;
let shown = null;
let poll = null;
let begun = false;
let told = null;

function tellPlan() {
  const formulas = compositions.asked().formulas.length;
  const names = properties?.chosen().length ?? 0;
  $("plan").textContent =
    formulas && names ? `${count(formulas, "formula")} × ${count(names, "property", "properties")}` : formulas ? "Choose a property" : "Enter a formula";
}

function tellHealth(state, ...words) {
  show($("health"), icon(state), ...words);
  $("health").dataset.state = state;
}

function tellStates(list) {
  const at = (status) => list.filter((property) => property.status === status).length;
  const [loading, unavailable] = [at("loading"), at("unavailable")];
  const rest = [loading && `${loading} loading`, unavailable && `${unavailable} unavailable`].filter(Boolean);
  const name = loading ? "wait" : unavailable || at("degraded") || !list.length ? "warn" : "check";
  const ready = `${list.length - loading - unavailable} of ${list.length}`;
  tellHealth(name, el("span", {}, ready, el("span", { class: "wide-only" }, " models"), " ready", el("span", { class: "wide-only" }, ...rest.map((words) => `, ${words}`))));
}

function tellExamples(list) {
  $("examples-title").hidden = !list.some(usable);
  const buttons = examples(list).map((example) =>
    el(
      "button",
      {
        type: "button",
        class: "example",
        onclick: () => {
          compositions.set(example.formulas);
          properties.set(example.properties);
          predict();
        },
      },
      el("strong", {}, example.title),
      el("span", {}, example.about),
      el("span", { class: "example-formulas" }, example.formulas.join(", ")),
    ),
  );
  show($("examples"), ...(list.some(usable) ? buttons : []));
}

function fail(error, retry) {
  if (error.name === "AbortError") return;
  if (error.kind === "key") {
    const refused = api.apiKey.get();
    show($("health"));
    told = null;
    $("key").hidden = false;
    if (refused) problem.show(new api.ServiceError("key", "The service did not accept this key. Check it and enter it again."));
    else problem.clear();
    $("key").dataset.then = retry === predict ? "predict" : "";
    $("key-value").focus();
    return;
  }
  problem.show(error, retry);
  refreshSoon(POLL_LOADING);
}

/** Ask what is served. A poll shows no message: the service may be back soon, with other models. */
async function refresh({ quiet = false } = {}) {
  clearTimeout(poll);
  try {
    settle(await api.properties());
  } catch (error) {
    if (error.kind === "offline") {
      tellHealth("error", "no connection");
      told = null;
    }
    if (!quiet || (error.kind === "key" && !begun)) fail(error, refresh);
    else if (error.kind !== "key") refreshSoon(POLL_GONE);
    return false;
  }
  if (quiet && (!begun || problem.kind() === "offline")) problem.clear();
  if (!begun) restore();
  begun = true;
  return true;
}

function refreshSoon(wait) {
  clearTimeout(poll);
  poll = setTimeout(refresh, wait, { quiet: true });
}

/** Show a list, unless it is the one that is shown: a poll takes no focus and is not read out. */
function settle(list) {
  const soon = !list.length || list.some((property) => property.status === "loading");
  refreshSoon(soon ? POLL_LOADING : POLL_CALM);
  $("forget").hidden = !api.apiKey.get();
  if (JSON.stringify(list) === told) return;
  told = JSON.stringify(list);
  properties.update(list);
  tellStates(list);
  tellExamples(list);
  tellPlan();
}

function setRunning(controller) {
  running = controller;
  $("stop").hidden = !controller;
  $("predict").disabled = Boolean(controller);
  $("predict").textContent = controller ? "Predicting…" : "Predict";
  $("results").setAttribute("aria-busy", String(Boolean(controller)));
}

/** Predict what is entered; a prediction that still runs is of another question, and ends. */
async function predict() {
  running?.abort();
  setRunning(null);
  problem.clear();
  const asked = compositions.asked();
  const { formulas } = asked;
  const chosen = properties.chosen();
  if (!formulas.length || !chosen.length) {
    $("status").textContent = formulas.length ? "Choose at least one property first." : "Enter at least one formula first.";
    (formulas.length ? $("search") : $("formulas")).focus();
    return;
  }
  const link = encode({ ...asked, properties: chosen });
  history.replaceState(null, "", link.length > LONGEST_LINK ? location.pathname : link);
  const having = (...words) => chosen.filter((name) => words.includes(properties.get(name).status));
  const [now, later, never] = [having("ready", "degraded"), having("loading"), having("unavailable")];
  if (!now.length && !later.length) {
    problem.show(new api.ServiceError("refused", `${never.join(", ")}: ${properties.get(never[0]).status_note || "unavailable"}`));
    return;
  }
  const controller = new AbortController();
  const { signal } = controller;
  setRunning(controller);
  $("results").classList.add("stale");
  try {
    let answer = now.length ? await ask(asked, now, signal) : null;
    if (answer) {
      await knowVersions(answer, signal);
      display(answer, now, later, never);
    }
    if (later.length) {
      if (!answer) $("status").textContent = "The models are being loaded; the prediction follows.";
      const lost = (name) => properties.get(name)?.status === "unavailable";
      const waitFor = (name) => api.predictPatiently(asked, name, signal, () => lost(name));
      const rest = await api.settled(later, waitFor);
      signal.throwIfAborted();
      answer = rest.reduce((whole, { value }) => (value ? api.merged(whole, value) : whole), answer);
      if (!answer) throw rest[0].reason;
      await knowVersions(answer, signal);
      const missing = later.filter((_, i) => !rest[i].value);
      display(answer, chosen.filter((name) => answer.models[name]), [], [...never, ...missing]);
      const failed = rest.find(({ reason }, i) => reason && !lost(later[i]));
      if (failed) fail(failed.reason, predict);
    }
  } catch (error) {
    if (running !== controller) return;
    $("status").textContent = error.name === "AbortError" ? "Stopped." : "No prediction was made.";
    fail(error, predict);
  } finally {
    if (running === controller) setRunning(null);
  }
}

/** The list is polled once a minute: ask again where another version has answered, as its unit and errors differ. */
async function knowVersions(answer, signal) {
  const other = ([name, { version }]) => properties.get(name)?.version !== version;
  if (Object.entries(answer.models).some(other)) settle(await api.properties());
  signal.throwIfAborted();
}

function ask(asked, names, signal) {
  $("status").textContent = "Predicting…";
  const progress = (done) => {
    const n = asked.formulas.length;
    if (done < n) $("status").textContent = `Predicting: ${done.toLocaleString("en-US")} of ${count(n, "formula")} done`;
  };
  return api.predict(asked, names, { signal, progress });
}

function display(answer, names, later, never) {
  const first = $("results").classList.contains("stale"); // what follows must not move the page
  $("results").classList.remove("stale");
  const list = names.map(properties.get).filter(Boolean);
  $("empty").hidden = true;
  $("answer").hidden = $("tools").hidden = false;
  show($("detail"));
  const table = resultTable($("table"), { answer, properties: list }, { select, fix: compositions.select });
  shown = { answer, list, table };
  const any = answer.results.some((result) => !result.error);
  $("answer").classList.toggle("no-detail", !any);
  $("legend").hidden = !any;
  $("status").textContent = summary(answer, names, later, never);
  if (WIDE.matches) table.first();
  if (first) $("results").scrollIntoView({ block: "start" });
}

function select(what, from) {
  if (WIDE.matches) {
    showDetail($("detail"), what);
    return;
  }
  show($("detail"));
  showDetail($("sheet-detail"), what);
  $("sheet").showModal();
  $("sheet").addEventListener("close", () => { show($("sheet-detail")); from.focus(); }, { once: true });
}

async function copyLink() {
  const link = location.href.split("#")[0] + encode({ formulas: shown.answer.results.map((result) => result.formula), amounts: shown.answer.amounts, properties: shown.list.map((property) => property.name) });
  if (link.length > LONGEST_LINK) {
    $("status").textContent = "Too many formulas for a link; download the CSV file instead.";
    return;
  }
  try {
    await navigator.clipboard.writeText(link);
    $("status").textContent = "Link copied.";
  } catch {
    history.replaceState(null, "", link);
    $("status").textContent = "The link is in the address bar: copy it from there.";
  }
}

function saveCsv() {
  const day = new Date().toISOString().slice(0, 10);
  download(toCsv(shown.answer, shown.list), `crossprop-${day}.csv`);
  $("status").textContent = `Table of ${count(shown.answer.results.length, "formula")} saved.`;
}

function restore() {
  const state = decode(location.hash);
  if (!state) {
    if (!properties.chosen().length) properties.set(firstChoice(properties.all()));
    return;
  }
  const strange = state.properties.filter((name) => !properties.get(name));
  compositions.set(state.formulas, state.amounts);
  properties.set(state.properties.length ? state.properties : firstChoice(properties.all()));
  if (strange.length) problem.show(new api.ServiceError("refused", `This service has no property ${strange.join(", ")}; the link may come from another service.`));
  else if (state.formulas.length) predict();
}

for (const [id, name, words] of [["turn", "swap", el("span", {}, "Swap", el("span", { class: "wide-only" }, " rows and columns"))], ["copy", "link", "Copy link"], ["csv", "download", el("span", {}, el("span", { class: "wide-only" }, "Download "), "CSV")]]) {
  show($(id), icon(name), words);
}
$("turn").addEventListener("click", () => shown.table.turn());
$("copy").addEventListener("click", copyLink);
$("csv").addEventListener("click", saveCsv);
$("stop").addEventListener("click", () => running?.abort());
$("ask").addEventListener("submit", (event) => { event.preventDefault(); predict(); });
$("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); predict(); }
});
$("key").addEventListener("submit", async (event) => {
  event.preventDefault();
  api.apiKey.set($("key-value").value.trim());
  $("key-value").value = "";
  $("key").hidden = true;
  problem.clear();
  if ((await refresh()) && $("key").dataset.then === "predict") predict();
});
$("forget").addEventListener("click", () => { api.apiKey.set(""); location.reload(); });
window.addEventListener("hashchange", restore);
$("skip").addEventListener("click", (event) => { event.preventDefault(); $("formulas").focus(); });
$("sheet-close").addEventListener("click", () => $("sheet").close());
const fold = () => ($("table-pane").open = ROOMY.matches); // a wide page has no handle to open it
ROOMY.addEventListener("change", fold);
fold();
compositions.set([]);
refresh();
