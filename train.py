"""The door: python train.py task=multitask balancer=gradnorm"""

from kexue_pl.cli import main

if __name__ == "__main__":
    main()
