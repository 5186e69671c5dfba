// @ts-check
// A checkout without the payment pages: the shop's own HTML, and the REST API.
import { PaymentClient, Problem, follow } from "./payment-client.js";

const page = /** @type {HTMLElement} */ (document.querySelector("[data-headless]"));
const { api = "", orderUrl = "", words = "{}" } = page.dataset;
const says = JSON.parse(words);
const KEPT = "headless-payment";
const WAITING = new Set(["pending", "authenticated", "in_review", "awaiting_funds"]);
const OVER = new Set(["failed", "canceled", "expired"]);

/** @param {string} name @returns {HTMLElement} */
const part = (name) =>
  /** @type {HTMLElement} */ (page.querySelector(`[data-part="${name}"]`));

/** @param {string} name */
function show(name) {
  for (const one of ["order", "ways", "status"]) {
    part(one).hidden = one !== name;
  }
}

/** @param {unknown} error */
function complain(error) {
  const text = error instanceof Problem ? error.message : says.wrong;
  part("problem").textContent = text;
  part("problem").hidden = false;
}

/** @param {string} label @param {() => Promise<unknown>} click */
function button(label, click) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "button is-wide";
  made.textContent = label;
  made.addEventListener("click", async () => {
    made.disabled = true;
    part("problem").hidden = true;
    try {
      await click();
    } catch (error) {
      complain(error);
      made.disabled = false;
    }
  });
  return made;
}

/** @param {string} payment @param {string} secret */
function keep(payment, secret) {
  sessionStorage.setItem(KEPT, JSON.stringify({ payment, secret }));
  return new PaymentClient(api, payment, secret);
}

/** @param {PaymentClient} client */
async function choose(client) {
  const [payment, ways] = [await client.retrieve(), await client.methods()];
  part("choices").replaceChildren(
    ...ways.map((way) =>
      button(way.name, async () => {
        const started = await client.start(way);
        await follow(started.next_action, payment.checkout_url);
      }),
    ),
  );
  show("ways");
}

/** @param {PaymentClient} client @param {number} [wait] seconds */
async function tell(client, wait = 2) {
  const payment = await client.sync();
  if (payment.status === "created") {
    await choose(client);
    return;
  }
  part("status").dataset.status = payment.status;
  part("verdict").textContent =
    payment.decline?.message || says[payment.status] || says.paid;
  part("again").replaceChildren();
  if (OVER.has(payment.status)) {
    part("again").append(
      button(says.again, async () => {
        const attempt = await client.retry();
        await choose(keep(attempt.uuid, attempt.client_secret));
      }),
    );
  }
  const action = payment.next_action;
  if (payment.status === "pending" && action) {
    part("again").append(
      button(says.continue, () => follow(action, payment.checkout_url)),
    );
  }
  show("status");
  if (WAITING.has(payment.status)) {
    setTimeout(() => tell(client, Math.min(wait * 2, 60)).catch(complain), wait * 1000);
  }
}

part("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  part("problem").hidden = true;
  const form = /** @type {HTMLFormElement} */ (event.target);
  const send = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  send.disabled = true;
  try {
    const body = new FormData(form);
    const response = await fetch(orderUrl, { method: "POST", body });
    const said = await response.json();
    if (!response.ok) {
      part("problem").textContent = said.detail;
      part("problem").hidden = false;
      return;
    }
    await choose(keep(said.payment, said.secret));
  } catch (error) {
    complain(error);
  } finally {
    send.disabled = false;
  }
});

part("new").addEventListener("click", () => sessionStorage.removeItem(KEPT));

const kept = sessionStorage.getItem(KEPT);
if (kept) {
  const { payment, secret } = JSON.parse(kept);
  tell(new PaymentClient(api, payment, secret)).catch(complain);
} else {
  show("order");
}
