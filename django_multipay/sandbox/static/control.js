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

  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-send]");
    if (button) send(button.dataset.send, button.dataset.method || "POST");
  });

  document.addEventListener("submit", function (event) {
    var form = event.target;
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
