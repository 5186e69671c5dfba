// @ts-check
/**
 * @typedef {{amount: string, currency: string, amount_minor: number}} Money
 * @typedef {{type: string, url?: string, fields?: Record<string, string>,
 *   src?: string, call?: string, payload?: object, requires?: string[],
 *   opens_popup?: boolean}} NextAction
 * @typedef {{uuid: string, status: string, amount: Money, checkout_url: string,
 *   decline: {code: string, message: string} | null,
 *   next_action: NextAction | null}} Payment
 * @typedef {{provider: string, method: string, kind: string, name: string}} Way
 */

/** What the API says when something went wrong. */
export class Problem extends Error {
  /** @param {{detail: string, code: string, field: string, remedy: string}} said */
  constructor(said) {
    super(said.detail);
    this.code = said.code;
    this.field = said.field;
    this.remedy = said.remedy;
  }
}

/** One payment, as its buyer's browser may use it. */
export class PaymentClient {
  /**
   * @param {string} api where the API is, such as "/payments/api"
   * @param {string} payment the uuid
   * @param {string} secret the client secret; keep it out of URLs
   */
  constructor(api, payment, secret) {
    this.url = `${api}/payments/${payment}/`;
    this.secret = secret;
  }

  /** @returns {Promise<Payment>} */
  retrieve() {
    return this.#call("GET", "");
  }

  /** @returns {Promise<Way[]>} */
  methods() {
    return this.#call("GET", "methods/");
  }

  /**
   * Open the payment; safe to call again. A null action: ask again in a moment.
   * @param {Way} way
   * @returns {Promise<{status: string, next_action: NextAction | null}>}
   */
  start({ provider, method }) {
    return this.#call("POST", "start/", { provider, method });
  }

  /** Ask the provider, if it is time to. @returns {Promise<Payment>} */
  sync() {
    return this.#call("POST", "sync/");
  }

  /** @returns {Promise<Payment>} */
  cancel() {
    return this.#call("POST", "cancel/");
  }

  /** @returns {Promise<Payment & {client_secret: string}>} another attempt */
  retry() {
    return this.#call("POST", "retry/");
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   */
  async #call(method, path, body) {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        Authorization: `Multipay-Client ${this.secret}`,
        ...(body ? { "Content-Type": "application/json" } : {}),
      },
      body: body && JSON.stringify(body),
      credentials: "omit",
    });
    const said = await response.json();
    if (!response.ok) {
      throw new Problem(said);
    }
    return said;
  }
}

/**
 * Send the buyer where `action` says; what needs a page of its own goes on there.
 * @param {NextAction | null} action
 * @param {string} checkoutUrl `checkout_url` of the payment
 */
export async function follow(action, checkoutUrl) {
  if (action?.type === "redirect" && action.url) {
    location.assign(action.url);
  } else if (action?.type === "post_form" && action.url) {
    const form = document.createElement("form");
    form.method = "post";
    form.action = action.url;
    for (const [name, value] of Object.entries(action.fields ?? {})) {
      const field = document.createElement("input");
      field.type = "hidden";
      field.name = name;
      field.value = value;
      form.append(field);
    }
    document.body.append(form);
    // Not form.submit: a field may have that name.
    HTMLFormElement.prototype.submit.call(form);
  } else {
    location.assign(checkoutUrl);
  }
}
