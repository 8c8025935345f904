"""From a command line to running processes: arguments, devices, launchers, exit statuses."""

import logging
import os
import signal
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..config.device import available_device, count_gpus
from ..data.configuration import read_config
from ..errors import InputError, TrainingError
from .failures import explain, is_explained
from .output_folder import refuse_links

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # the shell's exit status for a program ended by Ctrl-C


def parse_arguments(epilog: str, arguments: list[str] | None = None) -> Namespace:
    """Detectron2's usual arguments. Options may also follow the KEY VALUE pairs, where Detectron2 would take them for
    pairs: users add --resume or --eval-only at the end of a command."""
    parser = default_argument_parser(epilog)
    (pairs,) = (action for action in parser._actions if action.dest == "opts")
    pairs.nargs, pairs.default = "*", []
    return parser.parse_intermixed_args(arguments)


def run(main: Callable[[CfgNode, Namespace], object], args: Namespace) -> int:
    """Calls ``main(cfg, args)`` in every process that `args` (Detectron2's usual arguments) or torchrun asks for.

    Returns the exit status: 0, or 1 after an InputError, a TrainingError or what `explain` knows, or 130 after Ctrl-C
    or, while it trains, SIGTERM. Of these, one line on stderr says what happened; other exceptions pass.
    """
    cfg = None
    try:
        cfg = load_config(args)
        check_output_dir(cfg.OUTPUT_DIR)
        if started_by_torchrun():
            _join_torchrun(cfg)
            _work(main, cfg, args)
            dist.destroy_process_group()
        else:
            _launch(main, cfg, args)
        return 0
    except Exception as error:
        if (sentence := explain(error, cfg)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{_how_to_resume(cfg, args)}", file=sys.stderr)
        return INTERRUPTED


def _launch(main: Callable, cfg: CfgNode, args: Namespace) -> None:
    """Runs in this process, or in one for each GPU; a sentence that ends one of them is raised here."""
    processes = args.num_gpus if cfg.MODEL.DEVICE == "cuda" else 1
    if processes * args.num_machines == 1:
        _work(main, cfg, args)
        return
    sentences = mp.get_context("spawn").SimpleQueue()
    replaced = {number: signal.signal(number, _pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        launch(
            _work_apart,
            processes,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, cfg, args, sentences),
            timeout=timedelta(seconds=cfg.SOLVER.PROCESS_TIMEOUT),
        )
    except mp.ProcessExitedException as error:
        if not sentences.empty():
            raise InputError(sentences.get()) from error
        if error.exit_code in (INTERRUPTED, -signal.SIGTERM, -signal.SIGINT):
            raise KeyboardInterrupt from error
        if error.exit_code < 0:
            raise TrainingError(
                f"process {error.error_index} of 0 to {processes - 1} here was ended by {error.signal_name}: start all "
                "again with --resume"
            ) from error
        raise
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _pass_on(number: int, frame) -> None:
    """The processes that train end together, and this one with them. They get SIGTERM, of which a second changes
    nothing: Ctrl-C in a terminal reaches them too."""
    for process in mp.active_children():
        os.kill(process.pid, signal.SIGTERM)


def _work_apart(main: Callable, cfg: CfgNode, args: Namespace, sentences) -> None:
    try:
        _work(main, cfg, args)
    except Exception as error:
        if (sentence := explain(error, cfg)) is None:
            raise
        sentences.put(sentence)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _work(main: Callable, cfg: CfgNode, args: Namespace) -> None:
    set_up_logging(cfg.OUTPUT_DIR)
    logger.info(f"Command line: {' '.join(sys.argv)}")
    logger.info(f"PyTorch {torch.__version__}; device: {cfg.MODEL.DEVICE}; processes: {comm.get_world_size()}")
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only
    main(cfg, args)


def started_by_torchrun() -> bool:
    return {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= os.environ.keys()


def _join_torchrun(cfg: CfgNode) -> None:
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda")
    if on_gpu:
        if local_size > torch.cuda.device_count():
            raise InputError(
                f"torchrun starts {local_size} processes here, but there are {torch.cuda.device_count()} GPUs: lower "
                "--nproc-per-node, or set MODEL.DEVICE cpu"
            )
        torch.cuda.set_device(local_rank)
    timeout = timedelta(seconds=cfg.SOLVER.PROCESS_TIMEOUT)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timeout)
    comm.create_local_process_group(local_size)


def set_up_logging(output_dir: str) -> None:
    """Logs of the main process go to the terminal and OUTPUT_DIR/log.txt, those of others to log.txt.rank1, …"""
    for name in ("fvcore", "detectron2", "convmae_det"):
        setup_logger(output_dir, distributed_rank=comm.get_rank(), name=name)
    # What the user can mend is reported in a sentence when it arrives at the top, without Detectron2's traceback.
    logging.getLogger("detectron2.engine.train_loop").addFilter(_is_unexpected)
    logging.raiseExceptions = False  # a line that a full disk doesn't take is no reason for a traceback
    threading.excepthook = _report_in_thread


def _is_unexpected(record: logging.LogRecord) -> bool:
    return not (record.exc_info and is_explained(record.exc_info[1]))


def _report_in_thread(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread writes events; what keeps it from that is raised where training goes on, too."""
    if not is_explained(failure.exc_value):
        threading.__excepthook__(failure)


def check_output_dir(path: str) -> None:
    """Makes the folder; InputError if nothing can be written there, or would be written through links in it."""
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"OUTPUT_DIR {path!r} can't be written to ({error.strerror}): choose another") from error
    refuse_links(path)


def _how_to_resume(cfg: CfgNode | None, args: Namespace) -> str:
    if cfg is None or args.eval_only:
        return ""
    tag = os.path.join(cfg.OUTPUT_DIR, "last_checkpoint")
    if not os.path.exists(tag):
        return f" before the first checkpoint in {cfg.OUTPUT_DIR}"
    with open(tag) as file:
        name = file.read().strip()
    return f": the same command with --resume goes on from {os.path.join(cfg.OUTPUT_DIR, name)}"


def load_config(args: Namespace) -> CfgNode:
    """:func:`~.configuration.read_config` of the arguments; MODEL.DEVICE is made one that this machine has.

    Raises InputError as that does, and for processes and devices that don't go together.
    """
    cfg = read_config(args.config_file, args.opts)
    cfg.MODEL.DEVICE = choose_device(cfg.MODEL.DEVICE, args)
    if cfg.SOLVER.PROCESS_TIMEOUT <= 0:
        raise InputError(f"SOLVER.PROCESS_TIMEOUT is {cfg.SOLVER.PROCESS_TIMEOUT}; it must be above 0 seconds")
    cfg.freeze()
    return cfg


def choose_device(device: str, args: Namespace) -> str:
    """The device of every process that `args` ask for; InputError if they can't each have one."""
    if not started_by_torchrun():
        gpus = count_gpus()
        _check_processes("cuda" if device == "auto" and gpus else device, args, gpus)
        if args.num_gpus == 0:
            device = "cpu"
    return available_device(device)


def _check_processes(device: str, args: Namespace, gpus: int) -> None:
    if not 0 <= args.machine_rank < args.num_machines:
        raise InputError(f"--machine-rank is {args.machine_rank}; it must be below --num-machines {args.num_machines}")
    several = args.num_gpus > 1 or args.num_machines > 1
    if args.num_gpus < 0 or (args.num_gpus > gpus and several):
        raise InputError(
            f"--num-gpus is {args.num_gpus}, but this machine has {gpus} GPUs: lower it, or for several processes on "
            "the CPU leave it out and use torchrun --nproc-per-node"
        )
    if several and device != "cuda":
        raise InputError(f"MODEL.DEVICE is {device}, but --num-gpus and --num-machines ask for several GPUs: drop one")
