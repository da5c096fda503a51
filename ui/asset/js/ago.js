// ago: keeps "12 s ago" true while a page stays open.
"use strict";
(() => {
  const words = (seconds) => {
    if (seconds < 5) return "just now";
    if (seconds < 60) return `${Math.floor(seconds)} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    if (seconds < 172800) return "1 day ago";
    return `${Math.floor(seconds / 86400)} days ago`;
  };
  // The server's clock counts: the page carries the time at which it was made.
  const made = Date.parse(document.documentElement.dataset.now);
  if (Number.isNaN(made)) return;
  const refresh = () => {
    const now = made + performance.now();
    for (const el of document.querySelectorAll("time[data-ago]")) {
      const text = words((now - Date.parse(el.dateTime)) / 1000);
      if (el.textContent !== text) el.textContent = text;
    }
  };
  setInterval(refresh, 10000);
})();
