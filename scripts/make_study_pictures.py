"""The figures of docs/studies, cut out of a study's page: python scripts/make_study_pictures.py distillation

Reads studies/NAME/report.html (swinlet report studies/NAME --out studies/NAME/report.html), and writes
docs/studies/NAME_differences.png (of the last test set) and NAME_curves.png. Needs chromium and chromedriver.
"""

import shutil
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

name = sys.argv[1]
options = webdriver.ChromeOptions()
options.binary_location = shutil.which("chromium") or "chromium"
for flag in ("headless", "no-sandbox", "disable-gpu", "force-device-scale-factor=1.5", "window-size=1200,3000"):
    options.add_argument(f"--{flag}")
browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
try:
    browser.get(Path(f"studies/{name}/report.html").resolve().as_uri())
    figures = {
        "differences": browser.find_elements(By.CSS_SELECTOR, ".verdicts figure")[-1],
        "curves": browser.find_element(By.XPATH, "//*[@class='panels']/.."),  # with the legend above
    }
    for kind, figure in figures.items():
        figure.screenshot(f"docs/studies/{name}_{kind}.png")
finally:
    browser.quit()
