/* Takes the buyer to the provider: by a form, by the provider's own script, or by a
   code to scan. Whoever comes back with the back button is not sent away again. */
(function () {
  "use strict";

  const PATIENCE = 20000;
  /* What lets our scripts pass the page's policy lets the provider's pass it too. */
  const nonce = document.currentScript.nonce;
  const cameBack =
    performance.getEntriesByType("navigation")[0]?.type === "back_forward";

  function shower(root) {
    const parts = root.querySelectorAll("[data-when]");
    let hadFocus = false;
    return (step) => {
      hadFocus ||= root.contains(document.activeElement);
      for (const part of parts) {
        part.hidden = !part.dataset.when.split(" ").includes(step);
      }
      /* The pressed button may be gone; its successor takes the focus. */
      const next = root.querySelector("[data-go]:not([hidden])");
      if (!hadFocus || !next) return;
      next.focus();
      hadFocus = false;
    };
  }

  function watch(root) {
    window.multipayWatch(root.dataset.stateUrl, (state) => {
      if (state.phase === "waiting" || state.phase === "open") return false;
      window.location.replace(root.dataset.outcomeUrl);
      return true;
    });
  }

  /* A form ------------------------------------------------------------------------- */

  const form = document.querySelector("form[data-multipay-submit]");
  if (form && !cameBack) HTMLFormElement.prototype.requestSubmit.call(form);

  /* A code to scan ------------------------------------------------------------------ */

  const HOUR = 3600;

  function countDown(root, show) {
    const time = root.querySelector("[data-expires]");
    if (!time) return;
    const end = Date.parse(time.dateTime);
    const left = root.querySelector("[data-left]");
    const timer = setInterval(tick, 1000);
    tick();

    function tick() {
      const seconds = Math.max(Math.ceil((end - Date.now()) / 1000), 0);
      const rest = String(seconds % 60).padStart(2, "0");
      left.textContent = `${Math.floor(seconds / 60)}:${rest}`;
      root.querySelector("[data-until]").hidden = seconds < HOUR;
      root.querySelector("[data-for]").hidden = seconds >= HOUR;
      if (seconds === 0) {
        clearInterval(timer);
        show("expired");
      }
    }
  }

  const code = document.querySelector("[data-multipay-code]");
  if (code) {
    countDown(code, shower(code));
    watch(code);
  }

  /* The provider's script ------------------------------------------------------------ */

  function load(src) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const timer = setTimeout(() => fail(), PATIENCE);
      const fail = () => {
        clearTimeout(timer);
        script.remove();
        reject(new Error(`${src} was not loaded`));
      };
      script.onerror = fail;
      script.onload = () => {
        clearTimeout(timer);
        resolve();
      };
      if (nonce) script.nonce = nonce;
      script.src = src;
      document.head.append(script);
    });
  }

  function runScript(root) {
    const action = JSON.parse(
      document.getElementById("multipay-next-action").textContent,
    );
    const show = shower(root);
    const loaded = new Set();
    let isWatching = false;
    let staysHere = false;

    async function prepare() {
      show("loading");
      try {
        for (const src of [...action.requires, action.src]) {
          if (!loaded.has(src)) await load(src);
          loaded.add(src);
        }
      } catch (error) {
        console.error(error);
        return show("failed");
      }
      show("ready");
      if (!action.opens_popup && !cameBack) call();
    }

    function call() {
      const path = action.call.split(".");
      const name = path.pop();
      try {
        const owner = path.reduce((value, part) => value[part], window);
        owner[name](action.payload);
      } catch (error) {
        console.error(error);
        return show("failed");
      }
      if (!action.opens_popup || staysHere) show("called");
      if (!isWatching) watch(root);
      isWatching = true;
    }

    /* The script opens its window some time after the click; only here can we learn
       whether the browser allowed it, and when the buyer closed it. */
    function observePopups() {
      const open = window.open;
      let timer = 0;
      window.open = function (...values) {
        if (staysHere) return instead(...values);
        const popup = open.apply(window, values);
        clearInterval(timer);
        if (!popup) {
          show("blocked");
          return popup;
        }
        show("open");
        timer = setInterval(() => {
          if (!popup.closed) return;
          clearInterval(timer);
          show("closed");
        }, 500);
        return popup;
      };
    }

    /* Where no window may be opened, the script gets this one in its place: a form
       that it sends to a window of some name finds ours. */
    function instead(url, name) {
      window.name = name || "";
      if (url && url !== "about:blank") window.location.assign(url);
      return window;
    }

    if (action.opens_popup) observePopups();
    for (const button of root.querySelectorAll("[data-go]")) {
      button.addEventListener("click", () => {
        staysHere = button.dataset.go === "here";
        if (loaded.has(action.src)) call();
        else prepare();
      });
    }
    prepare();
  }

  const call = document.querySelector("[data-multipay-call]");
  if (call) runScript(call);
})();
