"""Draw docs/web.jpg from the page of swinlet web: python demo/make_web_picture.py

Needs chromium, chromedriver and swinlet[web]. Shown is what the page makes of demo/images/test/astronaut.png, shrunk
and enlarged again by the student that ships and by the demo's teacher.
"""

import base64
import io
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WIDTH = 1360
DETAIL = (0.345, 0.735)  # the badge, of width and height

command = [sys.executable, "-m", "swinlet", "web", "--no-browser", "--port", "0"]
server = subprocess.Popen(
    [*command, "--teacher", "demo/teacher_x4.safetensors"], stderr=subprocess.PIPE, text=True, encoding="utf-8"
)
options = webdriver.ChromeOptions()
options.binary_location = shutil.which("chromium") or "chromium"
for flag in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"):
    options.add_argument(f"--{flag}")
browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
try:
    assert server.stderr is not None
    address = next(match[0] for line in server.stderr if (match := re.search(r"http://\S+", line)))
    view = {"width": WIDTH, "height": 1200, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
    browser.get(address)
    wait = WebDriverWait(browser, 60)
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "#picture input[type=file]"))
    picture = browser.find_element(By.CSS_SELECTOR, "#picture input[type=file]")
    picture.send_keys(str(Path("demo/images/test/astronaut.png").resolve()))
    wait.until(lambda page: "512x512" in page.find_element(By.ID, "about").text)
    browser.find_elements(By.CSS_SELECTOR, "#kind label")[1].click()
    browser.find_element(By.ID, "start").click()
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".swl-detail"))
    wait.until(lambda page: page.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth)"))
    browser.execute_script(
        """
        const view = document.querySelector(".swl-view"), box = view.getBoundingClientRect();
        const at = { clientX: box.left + arguments[0] * box.width, clientY: box.top + arguments[1] * box.height };
        view.dispatchEvent(new PointerEvent("pointerdown", { ...at, bubbles: true, cancelable: true }));
        document.dispatchEvent(new PointerEvent("pointerup"));
        document.activeElement.blur();
        """,
        *DETAIL,
    )
    wait.until(lambda page: not page.find_elements(By.ID, "message"))
    height = browser.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
finally:
    browser.quit()
    server.send_signal(signal.SIGINT)
    server.wait(30)
Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB").save("docs/web.jpg", quality=82, optimize=True)
