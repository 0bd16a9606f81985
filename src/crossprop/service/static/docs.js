// The description of the API, read with Swagger UI: its examples name this address and properties that are served.

const spec = await (await fetch("openapi.json")).json();
spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
const served = await fetch("v1/properties");
const names = served.ok ? (await served.json()).properties.map((property) => property.name) : [];
if (names.length) {
  spec.paths["/v1/predict"].post.requestBody.content["application/json"].example.properties = names.slice(0, 2);
  spec.paths["/v1/properties/{name}/parity"].get.parameters[0].example = names[0];
}
SwaggerUIBundle({ spec, dom_id: "#api", deepLinking: true, validatorUrl: null });
