/* The page that tells how the payment went: it waits, goes on, and copies. */
(function () {
  "use strict";

  const SLOW = 30000;
  const CONTINUE = 6000;
  const page = document.querySelector("[data-multipay-outcome]");
  const phase = page.dataset.phase;

  /* Opened by the checkout page (Eximbay names its window so), which watches for
     itself: nothing is left to do here. */
  const isPopup = Boolean(window.opener) && window.name === "popOpen";

  function watch() {
    window.multipayWatch(page.dataset.stateUrl, (state) => {
      if (state.phase === phase) return false;
      window.location.replace(page.dataset.outcomeUrl);
      return true;
    });
    const slow = page.querySelector("[data-slow]");
    if (slow) setTimeout(() => (slow.hidden = false), SLOW);
  }

  function goOn() {
    const link = page.querySelector("[data-continue]");
    const cameBack =
      performance.getEntriesByType("navigation")[0]?.type === "back_forward";
    if (!link || cameBack) return;
    const box = page.querySelector("[data-continuing]");
    const timer = setTimeout(() => window.location.assign(link.href), CONTINUE);
    box.hidden = false;
    const stay = () => {
      clearTimeout(timer);
      box.hidden = true;
    };
    box.querySelector("[data-stay]").addEventListener("click", () => {
      stay();
      link.focus();
    });
    /* A page that the back button brings from memory brings its timers along. */
    window.addEventListener("pagehide", stay);
  }

  function offerCopies() {
    if (!navigator.clipboard) return;
    for (const button of page.querySelectorAll("[data-copy]")) {
      const before = button.querySelector("[data-before]");
      const after = button.querySelector("[data-after]");
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.dataset.copy);
        before.hidden = true;
        after.hidden = false;
        setTimeout(() => {
          before.hidden = false;
          after.hidden = true;
        }, 3000);
      });
    }
  }

  if (isPopup) {
    page.querySelector("[data-page-only]").hidden = true;
    page.querySelector("[data-popup-only]").hidden = false;
    window.close();
  } else {
    if (["open", "waiting", "deposit", "review"].includes(phase)) watch();
    goOn();
  }
  offerCopies();
})();
