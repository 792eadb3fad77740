// The API reference, rendered from /api/openapi.json in the browser, so that it always matches the host.

import { h, render } from "preact";
import { useEffect, useState } from "preact/hooks";
import htm from "htm";

const html = htm.bind(h);
const METHODS = ["get", "post", "put", "patch", "delete"];
const PLACES = { path: "Path parameters", query: "Query parameters", header: "Headers" };

const idOf = (operation) => `op-${operation.operationId}`;
const nameOf = (reference) => reference.split("/").at(-1);

/** Text with inline `code`. */
const Text = ({ text = "" }) => text.split("`").map((part, index) => (index % 2 === 1 ? html`<code key=${index}>${part}</code>` : part));

/** The type of a value, in words and links. */
function Type({ of: schema = {} }) {
  if (schema.$ref) return html`<a href=${`#schema-${nameOf(schema.$ref)}`}>${nameOf(schema.$ref)}</a>`;
  const choice = schema.oneOf ?? schema.anyOf;
  if (choice) return choice.map((one, index) => html`${index > 0 && " or "}<${Type} key=${index} of=${one} />`);
  if (schema.enum) return schema.enum.map((one, index) => html`${index > 0 && " "}<code key=${one} class="choice">${one}</code>`);
  const types = [schema.type ?? "anything"].flat();
  return types.map((type, index) => html`${index > 0 && " or "}<${Plain} key=${type} type=${type} schema=${schema} />`);
}

function Plain({ type, schema }) {
  if (type === "array") return html`list of <${Type} of=${schema.items} />`;
  if (type === "object" && typeof schema.additionalProperties === "object") return html`map of <${Type} of=${schema.additionalProperties} />`;
  return html`<span>${schema.format && type !== "null" ? `${type} (${schema.format})` : type}</span>`;
}

const Field = ({ name, schema, isRequired, text }) => html`<div class="field">
  <dt><code>${name}</code>${isRequired && html`<small class="required">required</small>`}</dt>
  <dd><div class="type"><${Type} of=${schema} /></div>${text && html`<p><${Text} text=${text} /></p>`}</dd>
</div>`;

function Fields({ schema }) {
  const required = new Set(schema.required);
  const fields = Object.entries(schema.properties ?? {});
  return html`<dl class="fields">
    ${fields.map(([name, one]) => html`<${Field} key=${name} name=${name} schema=${one} isRequired=${required.has(name)} text=${one.description} />`)}
  </dl>`;
}

/** A schema's own fields; other schemas are links. */
function Form({ of: schema }) {
  if (schema.properties) return html`<${Fields} schema=${schema} />`;
  const parts = schema.allOf ?? schema.oneOf;
  if (!parts) return html`<p><${Type} of=${schema} /></p>`;
  return html`<p class="muted">${schema.allOf ? "All of:" : "One of:"}</p>
    ${parts.map((one, index) => html`<div key=${index} class="part">${one.$ref ? html`<${Type} of=${one} />` : html`<${Form} of=${one} />`}</div>`)}`;
}

function Body({ title, content }) {
  return Object.entries(content ?? {}).map(
    ([media, { schema }]) => html`<p key=${media} class="body"><strong>${title}</strong> <code>${media}</code> <${Type} of=${schema} /></p>`,
  );
}

function Operation({ method, path, operation }) {
  const groups = Object.entries(PLACES).map(([place, title]) => [title, (operation.parameters ?? []).filter((one) => one.in === place)]);
  const needsKey = !operation.security?.some((one) => Object.keys(one).length === 0);
  return html`<article class="card operation" id=${idOf(operation)} data-operation=${operation.operationId}>
    <h3><span class=${`method ${method}`}>${method}</span> <code class="path">${path}</code></h3>
    <p><${Text} text=${operation.summary} /></p>
    ${operation.description && html`<p class="muted"><${Text} text=${operation.description} /></p>`}
    ${!needsKey && html`<p class="muted">Requires no API key.</p>`}
    ${groups.map(
      ([title, list]) =>
        list.length > 0 &&
        html`<h4 key=${title}>${title}</h4>
          <dl class="fields">${list.map((one) => html`<${Field} key=${one.name} name=${one.name} schema=${one.schema} isRequired=${one.required} text=${one.description} />`)}</dl>`,
    )}
    ${operation.requestBody && html`<h4>Request body</h4><${Body} title="Type" content=${operation.requestBody.content} />`}
    <h4>Responses</h4>
    <dl class="fields">
      ${Object.entries(operation.responses).map(
        ([status, answer]) => html`<div key=${status} class="field">
          <dt><code>${status === "default" ? "any other" : status}</code></dt>
          <dd><p><${Text} text=${answer.description} /></p><${Body} title="" content=${answer.content} /></dd>
        </div>`,
      )}
    </dl>
  </article>`;
}

function groupsOf(document) {
  const groups = new Map();
  for (const [path, item] of Object.entries(document.paths)) {
    for (const method of METHODS.filter((one) => item[one])) {
      const operation = item[method];
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), { method, path, operation }]);
    }
  }
  return [...groups];
}

const Contents = ({ groups, schemas }) => html`<nav class="contents" aria-label="Contents">
  ${groups.map(
    ([tag, list]) => html`<details key=${tag} open>
      <summary>${tag}</summary>
      ${list.map(({ method, operation }) => html`<a key=${operation.operationId} href=${`#${idOf(operation)}`}><span class=${`method ${method}`}>${method}</span>${operation.summary?.replace(/\.$/, "")}</a>`)}
    </details>`,
  )}
  <details>
    <summary>Schemas</summary>
    ${schemas.map(([name]) => html`<a key=${name} href=${`#schema-${name}`}>${name}</a>`)}
  </details>
</nav>`;

function Reference() {
  const [document, setDocument] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    fetch("/api/openapi.json").then((answer) => answer.json()).then(setDocument, (failed) => setError(failed.message));
  }, []);
  // The target of a link exists only now.
  useEffect(() => {
    if (document && location.hash) globalThis.document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }, [document]);
  if (error) return html`<p class="banner" role="alert">The console can't load the API document: ${error}. Check that the host is running.</p>`;
  if (!document) return html`<p class="banner">Loading…</p>`;
  const groups = groupsOf(document);
  const schemas = Object.entries(document.components.schemas);
  return html`
    <header>
      <a class="brand" href="/"><img src="/assets/icon.svg" alt="" width="28" height="28" /><span>Bellwether API</span></a>
      <span class="grow"></span>
      <a href="/api/openapi.json">openapi.json</a>
    </header>
    <div class="reference">
      <${Contents} groups=${groups} schemas=${schemas} />
      <main>
        <h1>API ${document.info.version}</h1>
        <p class="lead">The API uses JSON over HTTP. Send an API key with every request under <code>/api/v1</code>: <code>Authorization: Bearer bw_…</code>. Errors are <a href="#schema-Problem">problems</a>; lists are paginated.</p>
        ${groups.map(
          ([tag, list]) => html`<section key=${tag} aria-labelledby=${`tag-${tag}`}>
            <h2 id=${`tag-${tag}`}>${tag}</h2>
            ${list.map((one) => html`<${Operation} key=${one.operation.operationId} ...${one} />`)}
          </section>`,
        )}
        <section aria-labelledby="schemas">
          <h2 id="schemas">Schemas</h2>
          ${schemas.map(
            ([name, schema]) => html`<article key=${name} class="card schema" id=${`schema-${name}`}>
              <h3>${name}</h3>
              ${schema.description && html`<p class="muted"><${Text} text=${schema.description} /></p>`}
              <${Form} of=${schema} />
            </article>`,
          )}
        </section>
      </main>
    </div>
  `;
}

render(html`<${Reference} />`, document.getElementById("app"));
