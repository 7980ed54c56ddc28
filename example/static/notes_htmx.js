// What htmx 2 and its extension leave to a page.

// A note may be in the list already: the new one takes its place.
document.addEventListener("htmx:sseBeforeMessage", ({ detail }) => {
  const template = document.createElement("template");
  template.innerHTML = detail.data;
  for (const { id } of template.content.children) document.getElementById(id)?.remove();
});

// The stream does not come back by itself, because its token has ended: load the list, with a new one.
document.addEventListener("htmx:sseError", ({ target, detail }) => {
  if (detail.source.readyState === EventSource.CLOSED) htmx.trigger(target, "closed");
});

// The extension would open the stream of an element again that is there no longer.
document.addEventListener("htmx:beforeCleanupElement", ({ target }) => target.removeAttribute("sse-connect"));

document.addEventListener("htmx:afterRequest", ({ target }) => target.reset?.());
