/* One click is enough: the pressed form says so and takes no second one. The way that
   was pressed is remembered in this browser, and nowhere else. */
(function () {
  "use strict";

  const REMEMBERED = "multipay-way";
  const forms = document.querySelectorAll("form[data-multipay-once]");

  function setBusy(form, isBusy) {
    form.toggleAttribute("data-busy", isBusy);
    for (const button of form.querySelectorAll("button")) {
      button.setAttribute("aria-disabled", String(isBusy));
    }
    const note = form.querySelector("[data-busy-only]");
    if (note) note.hidden = !isBusy;
  }

  /* Storage may be switched off; then nothing is remembered. */
  function remember(way) {
    try {
      localStorage.setItem(REMEMBERED, way);
    } catch {}
  }

  function remembered() {
    try {
      return localStorage.getItem(REMEMBERED);
    } catch {
      return null;
    }
  }

  for (const form of forms) {
    form.addEventListener("submit", (event) => {
      if (document.querySelector("form[data-busy]")) return event.preventDefault();
      const row = form.closest("[data-way]");
      if (row) remember(row.dataset.way);
      setBusy(form, true);
    });
  }
  /* A page that the back button brings from memory is ready again. */
  window.addEventListener("pageshow", () => {
    for (const form of forms) setBusy(form, false);
  });

  const choices = document.querySelector("[data-multipay-choices]");
  const last = choices && remembered();
  const row = last && choices.querySelector(`[data-way="${CSS.escape(last)}"]`);
  if (row) {
    row.querySelector("[data-last]").hidden = false;
    choices.prepend(row);
  }

  /* One way only, and the buyer has just pressed a button of this very shop: go on.
     Who comes from elsewhere, or back, reads first what there is to pay. */
  const straight = document.querySelector("form[data-multipay-straight]");
  const cameBack =
    performance.getEntriesByType("navigation")[0]?.type !== "navigate";
  const isFromShop = document.referrer.startsWith(`${window.location.origin}/`);
  if (straight && isFromShop && !cameBack) straight.requestSubmit();
})();
