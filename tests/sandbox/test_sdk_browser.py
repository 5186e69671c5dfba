"""The SDKs in a real Chromium, on a page of another origin than the sandbox."""

import http.server
import json
import shutil
import threading

import pytest

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><title>Shop</title>
<script src="{sdk}"></script>
<button id="pay">Pay</button>
<script>
var request = {request};
document.getElementById("pay").addEventListener("click", function () {{
  EXIMBAY.request_pay(request);
}});
</script>
"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def checkout():
    """Serves one checkout page; the answer is a function that fills it."""
    content = {"page": ""}

    class Handler(http.server.BaseHTTPRequestHandler):
        wbufsize = -1

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content["page"].encode())

        def log_message(self, *args):
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()

        def fill(sdk, request):
            content["page"] = PAGE.format(sdk=sdk, request=json.dumps(request))
            return f"http://127.0.0.1:{server.server_port}/"

        yield fill
        server.shutdown()
        thread.join()


@pytest.fixture
def open_checkout(browser, merchant, checkout, sandbox_origin):
    def open_page(body, version="v2", **changes):
        fgkey = merchant.ready(body).json()["fgkey"]
        request = {**body, "fgkey": fgkey, **changes}
        page = browser.new_page()
        page.goto(checkout(f"{sandbox_origin}/{version}/javascriptSDK.js", request))
        return page

    return open_page


@pytest.mark.parametrize(
    "settings", [{"display_type": "R"}, {"display_type": "P", "ostype": "M"}]
)
def test_redirect_and_mobile_stay_in_the_window(merchant, open_checkout, settings):
    page = open_checkout(merchant.order(settings=settings))

    page.click("#pay")
    page.wait_for_url("**/Gateway/pay/*")
    page.click("button[value=approve]")
    page.click("#returnForm button")
    page.wait_for_url("**/return/")

    assert [item.path for item in merchant.shop.received] == ["/status/", "/return/"]
    page.close()


def test_a_popup_pays_and_returns_inside_itself(merchant, open_checkout):
    body = merchant.order(settings={"display_type": "P", "autoclose": "Y"})
    page = open_checkout(body)

    with page.expect_popup() as opened:
        page.click("#pay")
    popup = opened.value
    popup.wait_for_url("**/Gateway/pay/*")
    popup.click("button[value=approve]")
    popup.wait_for_url("**/return/")

    assert merchant.shop.received[-1].path == "/return/"
    page.close()


def test_a_refusal_is_shown_and_opens_nothing(merchant, open_checkout):
    page = open_checkout(merchant.order(), buyer={"name": "x", "email": "y"})
    seen = []
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))

    with page.expect_response("**/v1/payments"):
        page.click("#pay")
    page.wait_for_timeout(200)

    assert seen == ["Eximbay (sandbox) VE00: fgkey mismatch"]
    page.close()


def test_v1_dies_without_jquery(merchant, open_checkout):
    page = open_checkout(merchant.order(), version="v1")

    with page.expect_event("pageerror") as raised:
        page.click("#pay")

    assert "jQuery is not defined" in str(raised.value)
    page.close()


def test_the_page_fits_a_phone_and_works_by_keyboard(merchant, open_checkout):
    page = open_checkout(merchant.order(payment={"order_id": "A"}))
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#pay")
    page.wait_for_url("**/Gateway/pay/*")

    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.focus("input[name=method]:checked")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#returnForm")

    assert merchant.payment("A")["payment_method"] == "P102"
    page.close()
