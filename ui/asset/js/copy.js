// copy: a button with data-copy="id" copies that element's text.
"use strict";
(() => {
  const voice = document.getElementById("voice");

  const write = async (target) => {
    try {
      await navigator.clipboard.writeText(target.textContent.trim());
      return true;
    } catch {
      getSelection().selectAllChildren(target);
      return false;
    }
  };

  const reveal = () => {
    for (const button of document.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
  };

  document.addEventListener("click", async (e) => {
    const button = e.target.closest?.("[data-copy]");
    const target = button && document.getElementById(button.dataset.copy);
    if (!target) return;
    const copied = await write(target);
    if (voice) voice.textContent = copied ? "Copied" : "Selected: press Ctrl+C to copy";
    if (!copied) return;
    button.dataset.done = "";
    setTimeout(() => delete button.dataset.done, 1600);
  });
  document.addEventListener("swapped", reveal);
  reveal();
})();
