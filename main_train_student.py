"""Train a SwinIR student: python main_train_student.py --opt options/train_student_feature.json"""

from swinlet.cli import run_train

if __name__ == "__main__":
    run_train()
