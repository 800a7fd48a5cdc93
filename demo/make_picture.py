"""Draw docs/demo.png from a finished demo: python demo/make_picture.py

Details of the test images: bicubic, student (moving average) and teacher beside the photograph.
"""

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from swinlet.metrics import GroundTruth
from swinlet.models.select_network import define_G
from swinlet.models.select_teacher import define_teacher
from swinlet.options import load_options
from swinlet.utils.image_io import read_image, to_tensor, to_uint8
from swinlet.utils.resize import bicubic_downscale, bicubic_upscale
from swinlet.weights import read_weights

DETAILS = {"astronaut": (113, 172), "chelsea": (131, 58)}  # left, top in pixels of the photograph
SIDE, ZOOM, GAP, LINE = 88, 3, 10, 40

opt = load_options("options/train_demo.json")
run = opt.run_dir
student = define_G(opt)
student.load_state_dict(read_weights(run / "models" / f"{opt.train.total_iter}_E.pth", "student"))
networks = {"student, 350,523 parameters": student.eval(), "teacher, 988,959 parameters": define_teacher(opt, student)}

cell = SIDE * ZOOM
sheet = Image.new("RGB", (4 * cell + 5 * GAP, len(DETAILS) * (cell + LINE + GAP) + GAP), "white")
draw = ImageDraw.Draw(sheet)
font = ImageFont.load_default(14)
for row, (name, (left, top)) in enumerate(DETAILS.items()):
    truth = read_image(Path("demo/images/test") / f"{name}.png", 3)
    low = bicubic_downscale(truth, opt.scale)
    truth = truth[: low.shape[0] * opt.scale, : low.shape[1] * opt.scale]
    images = {"bicubic": bicubic_upscale(low, opt.scale)}
    with torch.inference_mode():
        for label, network in networks.items():
            images[label] = to_uint8(network(to_tensor(low)[None] / 255)[0])
    for column, (label, image) in enumerate([*images.items(), ("photograph", truth)]):
        detail = Image.fromarray(image).crop((left, top, left + SIDE, top + SIDE))
        x, y = GAP + column * (cell + GAP), GAP + row * (cell + LINE + GAP)
        sheet.paste(detail.resize((cell, cell), Image.Resampling.NEAREST), (x, y))
        score = "" if image is truth else f"\nPSNR-Y {GroundTruth(truth, opt.scale).psnr_y(image):.2f} dB (whole image)"
        draw.multiline_text((x, y + cell + 4), label + score, fill="black", font=font)
Path("docs").mkdir(exist_ok=True)
sheet.save("docs/demo.png", optimize=True)
