/* One click is enough: the pressed form says so and takes no second one. */
(function () {
  "use strict";

  const forms = document.querySelectorAll("form[data-multipay-once]");

  function setBusy(form, isBusy) {
    form.toggleAttribute("data-busy", isBusy);
    form.querySelector("button").setAttribute("aria-disabled", String(isBusy));
  }

  for (const form of forms) {
    form.addEventListener("submit", (event) => {
      if (document.querySelector("form[data-busy]")) event.preventDefault();
      else setBusy(form, true);
    });
  }
  /* A page that the back button brings from memory is ready again. */
  window.addEventListener("pageshow", () => {
    for (const form of forms) setBusy(form, false);
  });
})();
