/* Asks for the state of a payment, ever more slowly, until `onState` returns true.
   Rests while the page is hidden and asks at once when the buyer looks again. */
window.multipayWatch = function (url, onState) {
  "use strict";

  const FIRST = 1500;
  const SLOWEST = 15000;
  let delay = FIRST;
  let timer = 0;
  let isAsking = false;
  let isOver = false;

  async function ask() {
    clearTimeout(timer);
    if (isAsking || isOver) return;
    isAsking = true;
    try {
      const response = await fetch(url, {
        headers: { Accept: "application/json" },
        cache: "no-store",
        redirect: "error",
      });
      if (response.ok) isOver = onState(await response.json()) === true;
    } catch {
      /* No connection, or no answer that can be read: the next round asks again. */
    }
    isAsking = false;
    if (!document.hidden) timer = setTimeout(ask, delay);
    delay = Math.min(delay * 1.3, SLOWEST);
  }

  function askNow() {
    delay = FIRST;
    ask();
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) askNow();
  });
  window.addEventListener("focus", askNow);
  window.addEventListener("online", askNow);
  timer = setTimeout(ask, delay);
};
