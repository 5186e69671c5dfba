/* Copies a payment link. */
(function () {
  "use strict";

  const button = document.querySelector("[data-copy]");
  const field = document.querySelector("[data-link]");
  if (!button || !navigator.clipboard) return;
  const words = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(field.value);
    button.textContent = button.dataset.copied;
    setTimeout(() => (button.textContent = words), 3000);
  });
})();
