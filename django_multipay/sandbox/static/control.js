/* Buttons of the control page: one request each, then a fresh page. */
(function () {
  "use strict";

  function value(form) {
    var data = {};
    new FormData(form).forEach(function (text, name) {
      var input = form.elements[name];
      data[name] = input && input.type === "number" ? Number(text) : text;
      // One list for all providers: each choice knows whose it is.
      var chosen = input && input.selectedOptions && input.selectedOptions[0];
      if (chosen && chosen.dataset.provider) data.provider = chosen.dataset.provider;
    });
    return data;
  }

  function send(url, method, data) {
    return fetch(url, {
      method: method,
      headers: { "Content-Type": "application/json" },
      body: data ? JSON.stringify(data) : undefined
    }).then(function (response) {
      if (response.ok) return window.location.reload();
      return response.text().then(function (text) { window.alert(text); });
    });
  }

  /* The clock: one step after the other, and the page follows without a reload. */

  // So long a step of several can be seen.
  var PAUSE = 700;
  // A shop that follows the clock by itself needs a moment, too.
  var LOOK_AGAIN = [1000, 2500, 5000];

  function pause(milliseconds) {
    return new Promise(function (resolve) { window.setTimeout(resolve, milliseconds); });
  }

  function post(url, data) {
    return fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(data || {})
    }).then(function (response) {
      if (response.ok) return response;
      return response.text().then(function (text) { throw new Error(text); });
    });
  }

  function refresh() {
    return fetch(window.location.pathname).then(function (response) {
      return response.text();
    }).then(function (text) {
      var fresh = new DOMParser().parseFromString(text, "text/html");
      document.querySelectorAll("[data-live]").forEach(function (part) {
        // What somebody reads just now stays as it is.
        if (part.querySelector("details[open]")) return;
        part.replaceWith(fresh.querySelector('[data-live="' + part.dataset.live + '"]'));
      });
    });
  }

  function move(wish, times) {
    var progress = document.querySelector("[data-progress]");
    var keys = document.querySelectorAll(".moves button");
    function step(number) {
      if (times > 1) progress.textContent = number + " of " + times;
      return post("/_control/clock", wish)
        .then(function () { return post("/_control/callbacks/flush"); })
        .then(refresh)
        .then(function () {
          if (number < times) return pause(PAUSE).then(function () { return step(number + 1); });
        });
    }
    keys.forEach(function (key) { key.disabled = true; });
    step(1).catch(function (error) { window.alert(error.message); }).then(function () {
      progress.textContent = "";
      keys.forEach(function (key) { key.disabled = false; });
      LOOK_AGAIN.forEach(function (milliseconds) { window.setTimeout(refresh, milliseconds); });
    });
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-send], [data-days], [data-months]");
    if (!button) return;
    if (button.dataset.send) send(button.dataset.send, button.dataset.method || "POST");
    if (button.dataset.days) move({ advance_days: Number(button.dataset.days) }, 1);
    if (button.dataset.months) {
      move({ advance_months: Number(button.dataset.months) }, Number(button.dataset.times || 1));
    }
  });

  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (form.hasAttribute("data-clock")) {
      var wish = {};
      wish[form.elements.span.value] = Number(form.elements.number.value);
      event.preventDefault();
      move(wish, 1);
    }
    if (!form.dataset.json) return;
    event.preventDefault();
    send(form.dataset.json, "POST", value(form));
  });

  document.addEventListener("change", function (event) {
    var input = event.target;
    var slug = input.dataset.provider;
    if (!slug) return;
    var changes = {};
    var read = {
      boolean: function () { return input.checked; },
      number: function () { return Number(input.value); },
      text: function () { return input.value; }
    };
    changes[input.name] = read[input.dataset.kind]();
    var body = {};
    body[slug] = changes;
    send("/_control/settings", "POST", body);
  });
})();
