// live: swaps server-rendered regions as the server sends them.
//
// An element with data-live="/url" opens an event stream. Each event "region"
// carries HTML whose outermost elements have ids; each replaces the element
// with that id. "say" carries one sentence for screen readers, "beat" nothing;
// "end" closes. Without this script the page reloads itself instead (noscript
// refresh).
//
// A stream that breaks, or falls silent, is opened again, soon at first and then
// more slowly: behind the same name another node may answer, and it knows all
// that the first one did. Meanwhile #lost says so, with a way to try at once.
"use strict";
(() => {
  const SILENT = 15000, SLOWEST = 5000, TRIES = 60;
  const voice = document.getElementById("voice");
  const lost = document.getElementById("lost");

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

  const follow = (url) => {
    let stream = null, timer = 0, watch = 0, tries = 0;

    const close = () => {
      clearTimeout(timer);
      clearTimeout(watch);
      stream?.close();
      stream = null;
    };
    const heard = () => {
      tries = 0;
      lost?.setAttribute("hidden", "");
      clearTimeout(watch);
      watch = setTimeout(again, SILENT);
    };
    const again = () => {
      close();
      if (++tries > 1) lost?.removeAttribute("hidden");
      if (tries > TRIES) return;
      const wait = Math.min(125 * 2 ** tries, SLOWEST);
      timer = setTimeout(open, wait * (0.5 + Math.random() / 2));
    };
    const open = () => {
      close();
      stream = new EventSource(url);
      watch = setTimeout(again, SILENT);
      stream.addEventListener("region", (e) => { heard(); swap(e.data); });
      stream.addEventListener("say", (e) => { if (voice) voice.textContent = e.data; });
      stream.addEventListener("beat", heard);
      stream.addEventListener("end", close);
      stream.addEventListener("error", again);
    };

    lost?.querySelector("a")?.addEventListener("click", (e) => {
      e.preventDefault();
      tries = 1;
      open();
    });
    addEventListener("pagehide", close);
    addEventListener("pageshow", (e) => { if (e.persisted) open(); });
    open();
  };

  for (const root of document.querySelectorAll("[data-live]")) follow(root.dataset.live);
})();
