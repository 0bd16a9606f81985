// The description of the API, read with Swagger UI: its examples name this address and properties that are served.

const api = document.getElementById("api");
const dark = matchMedia("(prefers-color-scheme: dark)");
const NAMES = { "#servers": "Server", ".copy-to-clipboard button": "Copy", ".body-param__text": "Request body" };

function paint() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

/** What Swagger UI leaves out for keyboards and screen readers: names, levels of headings, scrolling without a mouse. */
function complete() {
  for (const [selector, name] of Object.entries(NAMES)) {
    for (const control of api.querySelectorAll(selector)) control.ariaLabel = name;
  }
  for (const link of api.querySelectorAll("button a[href]")) link.removeAttribute("href");
  for (const box of api.querySelectorAll("pre.microlight, .headers")) box.tabIndex = 0;
  for (const heading of api.querySelectorAll("h3, h4, h5")) {
    heading.role = "heading";
    heading.ariaLevel = Number(heading.tagName[1]) - 1;
  }
}

dark.addEventListener("change", paint);
paint();
new MutationObserver(complete).observe(api, { childList: true, subtree: true });

/** The content of an answer, or nothing if there is none: the service ended, or refuses for a while. */
async function read(path) {
  try {
    const answer = await fetch(path);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

const [spec, served] = await Promise.all([read("openapi.json"), read("v1/properties")]);
if (spec) {
  spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
  const names = served?.properties.map((property) => property.name) ?? [];
  if (names.length) {
    spec.paths["/v1/predict"].post.requestBody.content["application/json"].example.properties = names.slice(0, 2);
    spec.paths["/v1/properties/{name}/parity"].get.parameters[0].example = names[0];
  }
  SwaggerUIBundle({ spec, dom_id: "#api", deepLinking: true, validatorUrl: null, syntaxHighlight: false });
} else {
  api.textContent = "The service did not send the description of its API. Reload this page in a moment.";
}
