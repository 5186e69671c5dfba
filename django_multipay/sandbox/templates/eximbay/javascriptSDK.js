/* Eximbay browser SDK, sandbox edition{% if uses_jquery %} (v1: needs jQuery, as the real one){% endif %}. */
var EXIMBAY = (function () {
  "use strict";

  var origin = new URL(document.currentScript.src).origin;

  function refuse(rescode, resmsg) {
    var text = "Eximbay (sandbox) " + rescode + ": " + resmsg;
    console.error(text);
    window.alert(text);
  }

  function hiddenInput(name, value) {
    var input = document.createElement("input");
    input.type = "hidden";
    input.name = name;
    input.value = value;
    return input;
  }

  function buildForm(answer) {
    var old = document.getElementById("eximPaymentsForm");
    if (old) old.remove();
    var form = document.createElement("form");
    form.id = form.name = "eximPaymentsForm";
    form.method = "post";
    form.action = answer.url;
    Object.keys(answer).forEach(function (name) {
      if (name === "url" || name === "display_type") return;
      form.appendChild(hiddenInput(name, answer[name]));
    });
    form.appendChild(hiddenInput("param3", "OPENAPI"));
    document.body.appendChild(form);
    return form;
  }

  function open(answer) {
    if (!answer.url) return refuse(answer.rescode, answer.resmsg);
    var form = buildForm(answer);
    if (answer.display_type !== "R" && answer.ostype !== "M") {
      var popup = window.open("", "popOpen", "width=500,height=600,scrollbars=yes,resizable=yes");
      if (!popup) return refuse("popup", "the browser blocked the payment window");
      form.target = "popOpen";
      popup.focus();
    }
    /* A field called "submit" must not hide the method. */
    HTMLFormElement.prototype.submit.call(form);
  }

  function unreadable() {
    refuse("EE99", "no readable answer from " + origin);
  }

  function request_pay(request) {
{% if uses_jquery %}
    jQuery.ajax({
      url: origin + "/v1/payments",
      type: "POST",
      contentType: "application/json; UTF-8;",
      dataType: "json",
      data: JSON.stringify(request)
    }).done(open).fail(function (xhr) {
      if (xhr.responseJSON) return open(xhr.responseJSON);
      unreadable();
    });
{% else %}
    fetch(origin + "/v1/payments", {
      method: "POST",
      headers: { "Content-Type": "application/json; UTF-8;" },
      body: JSON.stringify(request)
    }).then(function (response) {
      return response.json();
    }).then(open, unreadable);
{% endif %}
  }

  return { request_pay: request_pay };
})();
