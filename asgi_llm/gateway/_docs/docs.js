"use strict";

// Every text of the document goes in as text, never as markup.
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const base = new URL(".", location.href);
const METHODS = ["get", "post", "put", "patch", "delete"];
let api;

function resolve(schema) {
  const name = schema.$ref?.startsWith("#/components/") ? schema.$ref.split("/") : null;
  return name ? { ...api.components[name[2]][name[3]], $name: name[3] } : schema;
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.allOf) return schema.allOf.map(typeOf).join(" and ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeOf).join(" | ");
  if (schema.type === "array") return `array of ${schema.items ? typeOf(schema.items) : "anything"}`;
  if (Array.isArray(schema.type)) return schema.type.join(" | ");
  return schema.type ?? "anything";
}

const LIMITS = ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "default"];

function limits(schema) {
  const words = [];
  for (const one of [schema, ...(schema.anyOf ?? [])]) {
    for (const key of LIMITS) {
      if (key in one) words.push(`${key} ${JSON.stringify(one[key])}`);
    }
  }
  return words.length ? ` (${words.join(", ")})` : "";
}

// The parts of a schema that a reader may want to open.
function partsOf(schema) {
  const whole = resolve(schema);
  const parts = Object.entries(whole.properties ?? {}).map(([name, part]) => [name, part, (whole.required ?? []).includes(name)]);
  for (const part of whole.allOf ?? []) parts.push(...partsOf(part));
  // Of a choice only what has parts itself is worth opening: its type line names the rest.
  const choices = (whole.anyOf ?? whole.oneOf ?? []).filter((choice) => choice.$ref || partsOf(choice).length);
  if (choices.length === 1 && !choices[0].$ref) parts.push(...partsOf(choices[0]));
  else parts.push(...choices.map((choice) => ["", choice, false]));
  const { items } = whole;
  if (items && (items.$ref || items.anyOf || items.properties)) parts.push(["each", items, false]);
  return parts;
}

function schemaList(schema) {
  const list = element("ul", { className: "schema" });
  for (const [name, part, required] of partsOf(schema)) {
    const whole = resolve(part);
    const line = [
      name ? element("code", { className: required ? "required" : "" }, name) : null,
      element("span", { className: "type" }, ` ${typeOf(part)}${limits(whole)}`),
      whole.description ? element("div", { className: "note" }, whole.description) : null,
    ];
    const item = element("li");
    if (partsOf(part).length) {
      // Opened on demand: schemas refer to themselves.
      const details = element("details", {}, element("summary", {}, ...line.filter(Boolean)));
      details.addEventListener("toggle", () => {
        if (details.open && details.children.length === 1) details.append(schemaList(part));
      });
      item.append(details);
    } else {
      item.append(...line.filter(Boolean));
    }
    list.append(item);
  }
  return list;
}

function schemaSection(title, schema) {
  return element("div", {}, element("p", { className: "type" }, `${title}: ${typeOf(schema)}`), schemaList(schema));
}

function answers(operation) {
  const box = element("div", {}, element("h3", {}, "Answers"));
  for (const [status, reference] of Object.entries(operation.responses ?? {})) {
    const answer = resolve(reference);
    box.append(element("p", {}, element("code", {}, status), ` ${answer.description ?? ""}`));
    if (!status.startsWith("2")) continue;
    for (const [media, content] of Object.entries(answer.content ?? {})) {
      if (content.schema) box.append(schemaSection(media, content.schema));
    }
  }
  return box;
}

async function show(response, started, status, output) {
  const id = response.headers.get("x-request-id");
  const head = () => `${response.status} ${response.statusText} after ${Math.round(performance.now() - started)} ms${id ? `, request ${id}` : ""}`;
  status.textContent = head();
  status.className = response.ok ? "note" : "failed";
  const type = response.headers.get("content-type") ?? "";
  if (!/json|text|event-stream/.test(type)) {
    output.textContent = `${(await response.blob()).size} bytes of ${type || "an unnamed type"}`;
    return;
  }
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) output.textContent += part.value;
  if (type.includes("json")) output.textContent = JSON.stringify(JSON.parse(output.textContent), null, 2);
  status.textContent = head();
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function tryIt(path, method, operation) {
  const [media, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [null, null];
  const form = element("form", {}, element("h3", {}, "Try it"));
  const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => {
    const input = element("input", { name, required: true, placeholder: name });
    form.append(element("label", { className: "row" }, name, input));
    return [name, input];
  });
  const file = media === "multipart/form-data" ? element("input", { type: "file", required: true }) : null;
  if (file) form.append(element("label", { className: "row" }, "file", file));
  const body = content ? element("textarea", { spellcheck: false, value: JSON.stringify(content.example ?? {}, null, 2) }) : null;
  if (body) form.append(element("label", {}, file ? "Other fields" : "Body", body));
  const send = element("button", { type: "submit" }, "Send");
  const stop = element("button", { type: "button", disabled: true }, "Stop");
  const curl = element("button", { type: "button" }, "Show as curl");
  const status = element("p", { className: "note", role: "status" });
  const output = element("pre", { hidden: true, tabIndex: 0 });
  form.append(element("div", { className: "row" }, send, stop, file ? null : curl), status, output);
  let controller = null;
  stop.addEventListener("click", () => controller?.abort());

  const address = () => new URL(named.reduce((made, [name, input]) => made.replace(`{${name}}`, input.value.split("/").map(encodeURIComponent).join("/")), path).slice(1), base);
  curl.addEventListener("click", () => {
    const words = ["curl", quoted(address().href)];
    if (operation.security?.length !== 0) words.push("-H", '"Authorization: Bearer $API_KEY"');
    if (body) words.push("-H", quoted(`Content-Type: ${media}`), "-d", quoted(body.value));
    output.hidden = false;
    output.textContent = words.join(" ");
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const request = { method: method.toUpperCase(), headers: {} };
    const key = document.getElementById("key").value.trim();
    if (key) request.headers.authorization = `Bearer ${key}`;
    output.hidden = false;
    output.textContent = "";
    controller = new AbortController();
    stop.disabled = false;
    send.disabled = true;
    try {
      if (file) {
        request.body = new FormData();
        for (const [name, value] of Object.entries(JSON.parse(body.value))) request.body.append(name, value);
        request.body.append("file", file.files[0]);
      } else if (body) {
        request.headers["content-type"] = media;
        request.body = body.value;
      }
      const started = performance.now();
      await show(await fetch(address(), { ...request, signal: controller.signal }), started, status, output);
    } catch (error) {
      status.textContent = error.name === "AbortError" ? "Stopped." : `Failed: ${error.message}`;
      status.className = "failed";
    } finally {
      stop.disabled = true;
      send.disabled = false;
    }
  });
  return form;
}

function endpoint(path, method, operation) {
  const box = element("div");
  if (operation.description) box.append(element("p", {}, operation.description));
  for (const [media, content] of Object.entries(operation.requestBody?.content ?? {})) {
    box.append(element("h3", {}, "Request"), schemaSection(media, content.schema));
  }
  box.append(answers(operation), tryIt(path, method, operation));
  return element(
    "details",
    { className: "endpoint", id: operation.operationId },
    element("summary", {}, element("span", { className: "method" }, method.toUpperCase()), element("span", { className: "path" }, path), ` ${operation.summary ?? ""}`),
    box,
  );
}

function render() {
  document.title = api.info.title;
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
  document.getElementById("about").textContent = api.info.description ?? "";
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => name in methods)) {
      const operation = methods[method];
      const tag = operation.tags?.[0] ?? "Other";
      groups.set(tag, [...(groups.get(tag) ?? []), endpoint(path, method, operation)]);
    }
  }
  const reference = document.getElementById("reference");
  const links = element("ul");
  reference.replaceChildren();
  for (const [tag, endpoints] of groups) {
    const id = `tag-${tag.toLowerCase()}`;
    reference.append(element("section", {}, element("h2", { id }, tag), ...endpoints));
    links.append(element("li", {}, element("a", { href: `#${id}` }, tag)));
  }
  document.getElementById("contents").replaceChildren(links);
}

async function start() {
  document.getElementById("credentials").addEventListener("submit", (event) => event.preventDefault());
  try {
    const response = await fetch(new URL("openapi.json", base));
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    api = await response.json();
    render();
  } catch (error) {
    document.getElementById("reference").replaceChildren(element("p", { className: "failed" }, `The OpenAPI document could not be loaded: ${error.message}`));
  }
}

start();
