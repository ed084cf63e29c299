"""Train a capsule network with PyTorch or JAX: the same network, steps, result.

    python train.py                                     the paper's network on the digits that
                                                        come with the package, with PyTorch
    python train.py --backend jax                       the same with JAX
    python train.py --preset small                      a network for a laptop
    python train.py --dataset mnist --data-dir DIR      all 60,000 digits
    python train.py --resume runs/NAME                  go on after Ctrl-C, kill -9, a full disk
    python train.py --resume runs/NAME --backend jax    ... in the other framework
    python train.py --resume auto --out runs/NAME       begin, or go on: for jobs that are restarted
    torchrun --nproc-per-node 2 train.py                the same run by two processes, or by those
                                                        that srun starts; see docs/processes.md

A flag that is not given has the value of the data set's recipe, or else of the preset. What runs,
and how it departs from the preset, is printed first. `--help` shows every default.

What to train
    --backend {torch,jax}     the framework; only this one needs to be installed
    --preset NAME             network and training: sabour2017 (the paper), sabour2017-official (the
                              authors' code where it differs), sabour2017-multimnist, -cifar10,
                              -smallnorb and -svhn (the paper's other data sets), small
    --dataset NAME            the preset's own unless given; mnist-mini, which needs no files, where
                              that is MNIST. `python -m parity data` lists all. The network takes
                              its image size, channels and classes from it
    --data-dir DIR            where its files are; otherwise TWINCAPS_DATA and the places where
                              torchvision, Keras and Debian keep them

How to train
    --epochs, --batch-size, --learning-rate, --optimizer {adam,adamw,sgd}
    --decay-steps INT         steps in which the rate decays by the preset's factor
    --ema FLOAT               keep moving averages of the weights, and evaluate them too
    --validation INT          hold out this many training images, in proportion from each class; the
                              best checkpoint is then the best on them, not on the test set
    --clip-norm FLOAT         scale gradients down to this norm where it is larger
    --seed INT                first weights, order of images, augmentation: the same in both
    --precision {float32,float64,bfloat16}

Where to compute
    --device NAME             cpu (the default) or cuda
    --compile                 through torch.compile; JAX compiles always
    --no-lean, --block INT    store the votes; or how many input capsules' are held at a time

Where to keep it
    --out DIR                 the run folder, runs/PRESET-DATASET-BACKEND-SEED unless given. One
                              that holds a run is never overwritten
    --checkpoint-every INT    steps between checkpoints, besides those at the end of each epoch
    --resume {RUN,auto}       go on from the newest whole checkpoint. Only --backend, --epochs,
                              --data-dir, --checkpoint-every and where to compute may differ from
                              what the run has

The run folder holds spec.json and training.json, metrics.jsonl (a line for each step and each
evaluation), checkpoints/ with the last three and the best, and, with the extra "figures", pictures
in figures/ and TensorBoard events. A checkpoint is written at the end of each epoch and at Ctrl-C.

Exit codes: 0 trained; 2 a mistake in flags, data or files, told in one line; 130 stopped by
Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2, and saved. Afterwards: python -m parity evaluate RUN;
python -m parity --help for the rest.
"""

import sys

from parity.cli import main

if __name__ == "__main__":
    sys.exit(main())
