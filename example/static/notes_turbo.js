// What Turbo leaves to a page.

// The page as it is now, with a new position and, if need be, a new token or the form to log in.
const load = () => Turbo.visit(location.href, { action: "replace" });

// A <turbo-stream-source> that also listens to what the daemon says of its stream.
customElements.define("notes-source", class extends customElements.get("turbo-stream-source") {
  connectedCallback() {
    super.connectedCallback();
    this.streamSource.addEventListener("reset", load);
    this.streamSource.addEventListener("token-expiring", () => fetch("/sinapse/token/"));
    this.streamSource.addEventListener("error", ({ target }) => {
      if (target.readyState === EventSource.CLOSED) setTimeout(() => this.isConnected && load(), 2000);
    });
  }
});

document.addEventListener("turbo:submit-end", ({ target, detail }) => detail.success && target.reset());
