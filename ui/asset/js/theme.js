// theme: changes the theme without a page load; the form does it otherwise.
"use strict";
(() => {
  document.addEventListener("submit", async (e) => {
    const form = e.target.closest("form.theme");
    if (!form || !e.submitter) return;
    e.preventDefault();
    const chosen = e.submitter.value;
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    for (const button of form.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button === e.submitter));
    }
    await fetch(form.action, { method: "POST", body: new URLSearchParams({ theme: chosen }), redirect: "manual" });
  });
})();
