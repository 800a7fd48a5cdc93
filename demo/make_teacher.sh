#!/bin/sh
# How demo/teacher_x4.safetensors was made. Needs the photographs in ../shared/data; hours on one core.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}

# One thread, and freed memory kept by the process: the same arithmetic, a fifth faster on the CPU.
export OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_MMAP_MAX_=0
"$PYTHON" main_train_student.py --opt options/train_teacher.json \
  datasets.train.dataroot_H=../shared/data/train \
  datasets.test.dataroot_H=../shared/data/testsets/Set5/HR \
  datasets.test.dataroot_L=../shared/data/testsets/Set5/LR_bicubic/X4

cp superresolution/teacher_x4/train.log demo/teacher_x4.log
"$PYTHON" demo/pack_teacher.py superresolution/teacher_x4/models/4500_G.pth demo/teacher_x4.safetensors
