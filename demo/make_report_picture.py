"""Draw docs/report.jpg from the demo's report: python demo/make_report_picture.py

Needs chromium and chromedriver. Shown are the scores over iterations, the pictures and the token maps.
"""

import base64
import io
import shutil
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

WIDTH = 1200
HIDDEN = "#scores, #options, #curves p, #curves .figures + .figures, footer, nav, button"

options = webdriver.ChromeOptions()
options.binary_location = shutil.which("chromium") or "chromium"
for flag in (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "no-first-run",
    "disable-background-networking",
    "hide-scrollbars",
):
    options.add_argument(f"--{flag}")
browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
try:
    view = {"width": WIDTH, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
    browser.get(Path("superresolution/demo/report.html").resolve().as_uri())
    browser.execute_script(f"document.querySelectorAll('{HIDDEN}').forEach(e => e.remove())")
    height = browser.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height + 24, "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
finally:
    browser.quit()
picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
picture.save("docs/report.jpg", quality=85, optimize=True)
