/* Sends the buyer back to the shop; without scripts the button does it. */
(function () {
  "use strict";
  var leaving = document.querySelector("[data-automatic]");
  if (!leaving) return;
  if (leaving.tagName === "FORM") HTMLFormElement.prototype.submit.call(leaving);
  else window.location.replace(leaving.href);
})();
