// What htmx 4 and its extension leave to a page.

// The token has ended: load the list, with a new one.
document.addEventListener("htmx:sse:error", ({ target, detail }) => {
  if (detail.status === 401) htmx.trigger(target, "closed");
});

document.addEventListener("htmx:after:request", ({ target }) => target.reset?.());
