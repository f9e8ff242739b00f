"""`accelerate launch -m trainers recipes/x.yaml` and `python -m trainers recipes/x.yaml`."""

from trainers.launch import main

main(None, __name__)
