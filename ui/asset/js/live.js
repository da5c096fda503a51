// live: swaps server-rendered regions as the server sends them.
//
// An element with data-live="/url" opens an event stream. Each event "region"
// carries HTML whose outermost elements have ids; each replaces the element
// with that id. "say" carries one sentence for screen readers; "end" closes.
// Without this script the page reloads itself instead (noscript refresh).
"use strict";
(() => {
  const voice = document.getElementById("voice");

  const swap = (html) => {
    const box = document.createElement("template");
    box.innerHTML = html;
    for (const fresh of [...box.content.children]) {
      const old = fresh.id && document.getElementById(fresh.id);
      if (!old) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      old.replaceWith(fresh);
      if (focused) document.getElementById(focused)?.focus();
    }
    document.dispatchEvent(new CustomEvent("swapped"));
  };

  for (const root of document.querySelectorAll("[data-live]")) {
    const stream = new EventSource(root.dataset.live);
    let failures = 0;
    stream.addEventListener("region", (e) => { failures = 0; swap(e.data); });
    stream.addEventListener("say", (e) => { if (voice) voice.textContent = e.data; });
    stream.addEventListener("end", () => stream.close());
    stream.addEventListener("error", () => {
      if (++failures < 6 && stream.readyState !== EventSource.CLOSED) return;
      stream.close();
      document.getElementById("lost")?.removeAttribute("hidden");
    });
    addEventListener("pagehide", () => stream.close(), { once: true });
  }
})();
