// The description of the API, read with Swagger UI; paths are relative, so that a proxy may put the service anywhere.

const response = await fetch("openapi.json");
const spec = { ...(await response.json()), servers: [{ url: new URL(".", location.href).pathname.replace(/\/$/, "") || "/" }] };
SwaggerUIBundle({ spec, dom_id: "#api", deepLinking: true, validatorUrl: null });
