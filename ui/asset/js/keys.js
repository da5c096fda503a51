// keys: single-key shortcuts. They are off inside fields, and a person can turn
// them off for good under Account (then <html data-keys="off">).
"use strict";
(() => {
  if (document.documentElement.dataset.keys === "off") return;
  const places = { h: "/", a: "/ask", e: "/memory", s: "/sources", w: "/access", m: "/models", l: "/audit", p: "/policies", k: "/keys", n: "/nodes" };
  const help = document.getElementById("keys");
  let armed = 0;

  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
    if (e.target.closest("input, textarea, select, [contenteditable], dialog")) return;
    if (e.key === "/") {
      const box = document.querySelector("[data-slash]");
      e.preventDefault();
      if (box) { box.focus(); box.select(); } else location.assign("/ask");
    } else if (e.key === "?" && help) {
      e.preventDefault();
      help.showModal();
    } else if (e.key === "g") {
      armed = e.timeStamp;
    } else if (armed && e.timeStamp - armed < 1500 && places[e.key]) {
      armed = 0;
      location.assign(places[e.key]);
    } else {
      armed = 0;
    }
  });
})();
