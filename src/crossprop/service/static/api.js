// The service's REST API. Every failure becomes a ServiceError that says what happened and what to do.

const KEY = "crossprop.key";
const AT_ONCE = 5000;
/** Most predictions that one request asks for; longer lists go in several. */
const MOST_FORMULAS = 1000;
/** How often a list is begun again because a model was replaced while it was predicted. */
const RESTARTS = 3;
/** How often a model that is being loaded is asked for, and the longest pause between two times in seconds. */
const PATIENCE = 30;
const LONGEST_PAUSE = 10;
/** Milliseconds after which a request that nobody can stop counts as unanswered. */
const LONGEST_WAIT = 60_000;

/** A request that got no answer; `kind` is offline, key, forbidden, busy, refused or failed. */
export class ServiceError extends Error {
  constructor(kind, message, retryAfter = null) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

/** The API key, kept for this tab only. */
export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

async function reason(response) {
  try {
    const body = await response.json();
    if (body?.error?.message) return body.error.message;
  } catch {
    // No JSON: the status has to do.
  }
  return `The service answered with status ${response.status}.`;
}

function kindOf(status) {
  if (status === 401) return "key";
  if (status === 403) return "forbidden";
  if (status === 429 || status === 503 || status === 504) return "busy";
  return status < 500 ? "refused" : "failed";
}

async function call(path, { body, signal = AbortSignal.timeout(LONGEST_WAIT) } = {}) {
  if (/[^ -~]/.test(apiKey.get())) throw new ServiceError("key", "The key holds a character that no key has.");
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  if (apiKey.get()) headers.Authorization = `Bearer ${apiKey.get()}`;
  const options = { method: body ? "POST" : "GET", headers, signal, cache: "no-store" };
  let response;
  try {
    response = await fetch(path, body ? { ...options, body: JSON.stringify(body) } : options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("offline", "The service does not answer. Is it running, and are you connected?");
  }
  if (!response.ok) {
    const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
    throw new ServiceError(kindOf(response.status), await reason(response), Number.isFinite(wait) ? wait : null);
  }
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("failed", "The answer of the service is not JSON. Does another program use this port?");
  }
}

/** Properties that the service predicts. */
export async function properties() {
  return (await call("v1/properties")).properties;
}

/** Hold-out of a property: reference values and predictions. */
export function parity(name) {
  return call(`v1/properties/${encodeURIComponent(name)}/parity`);
}

/** One prediction with the nearest training compositions. */
export async function nearest(formula, amounts, property, k) {
  const answer = await call("v1/predict", { body: { formulas: [formula], amounts, properties: [property], nearest: k } });
  return { cell: answer.results[0].predictions[property], model: answer.models[property] };
}

/**
 * Predict all formulas, in as many requests as needed; one version of each model answers all of them.
 *
 * @param {{formulas: string[], amounts: string}} asked formulas, and whether their amounts are "atomic" or "weight".
 * @param {(done: number) => void} progress is told how many formulas are answered.
 */
export async function predict({ formulas, amounts }, names, { signal, progress }) {
  const size = Math.max(1, Math.min(MOST_FORMULAS, Math.floor(AT_ONCE / names.length)));
  for (let restarts = 0; restarts <= RESTARTS; restarts++) {
    const whole = { amounts, results: [], models: {} };
    const replaced = ([name, { version }]) => version !== (whole.models[name]?.version ?? version);
    for (let start = 0; start < formulas.length; start += size) {
      const body = { formulas: formulas.slice(start, start + size), amounts, properties: names };
      const answer = await call("v1/predict", { body, signal });
      if (Object.entries(answer.models).some(replaced)) break;
      whole.results.push(...answer.results.map((result, i) => ({ ...result, formula: formulas[start + i] })));
      Object.assign(whole.models, answer.models);
      progress(whole.results.length);
    }
    if (whole.results.length === formulas.length) return whole;
  }
  throw new ServiceError("busy", "The models were replaced several times while this list was predicted.", 10);
}

/**
 * Ask for a property whose model is being loaded: the service loads it first, and may say to come back.
 *
 * @param {() => boolean} lost says that the model cannot be loaded, so that it need not be asked for again.
 */
export async function predictPatiently(asked, name, signal, lost) {
  for (let left = PATIENCE; ; left--) {
    try {
      return await predict(asked, [name], { signal, progress: () => {} });
    } catch (error) {
      if (error.kind !== "busy" || left === 0 || lost()) throw error;
      await new Promise((go, stop) => {
        setTimeout(go, 1000 * Math.min(LONGEST_PAUSE, error.retryAfter ?? 2));
        signal.addEventListener("abort", () => stop(signal.reason), { once: true });
      });
    }
  }
}

/** What became of every request, three at a time: a browser has six connections for a service, which polls need, too. */
export async function settled(names, request) {
  const outcomes = [];
  const places = names.keys();
  const work = async () => {
    for (const i of places) [outcomes[i]] = await Promise.allSettled([request(names[i])]);
  };
  await Promise.all([work(), work(), work()]);
  return outcomes;
}

/** Two answers for the same formulas and different properties as one; the first may be missing. */
export function merged(first, second) {
  if (!first) return second;
  const results = first.results.map((result, i) => ({
    ...result,
    predictions: { ...result.predictions, ...second.results[i].predictions },
  }));
  return { ...second, results, models: { ...first.models, ...second.models } };
}
